"""The agents that are shown: in which order, under which name, in which colour.

Colours are those of Okabe and Ito, which colour-blind readers can tell apart.
"""

INK, FAINT = "#333333", "#ABABAB"
BLUE, ORANGE, GREEN, VERMILION, PURPLE, SKY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9"

COLOURS = {
    "source": "#555555",
    "random": "#A0A0A0",
    "zero_shot": ORANGE,
    "action_hold": PURPLE,
    "pada": SKY,
    "telepath": BLUE,
    "oracle": GREEN,
}
NAMES = {
    "source": "source, at home",
    "random": "random",
    "zero_shot": "zero-shot",
    "action_hold": "action hold",
    "pada": "PADA",
    "telepath": "Telepath",
    "oracle": "oracle",
}
FILMED = ("source", "zero_shot", "telepath", "oracle")
"""Who is in the film, from left to right."""
