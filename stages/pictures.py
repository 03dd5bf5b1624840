"""Where the film lies; apart from ``artefacts``, on which the stages depend that take long."""

from stages.artefacts import REPORTS

FILM = REPORTS / "film" / "film.gif"
FILM_FACTS = REPORTS / "film" / "film.json"
POSES = REPORTS / "film" / "poses.png"
