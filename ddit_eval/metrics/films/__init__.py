"""Metrics of films: VBench's formulas, one dimension a file, and the captioned world's adherence in motion.

    film = frames.read("star.gif")                         # or a folder of frames; frames.film_of(tensor)
    value = metrics.get("temporal_flickering").value(film)  # one raw number, higher is better

A dimension bears its plain name only with the network that VBench uses for it. Where that is not at
hand, `missing()` says what belongs where, and the stand-ins (`-classical`, `-reader`, `-clip-world`) can
be measured under their own names.

Figures are means over films of equal length; VBench's own averages subject and background consistency
over all frames of all films, which is the same for equal lengths.
"""
