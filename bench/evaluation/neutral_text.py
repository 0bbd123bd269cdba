"""A text that asks nothing: what an intervention does to it is side effect."""

NEUTRAL_TEXT = """\
The path to the lake begins behind the old mill and follows a small stream. In spring the water \
is high and the stones are wet, so most people take the longer way along the fence. After about \
twenty minutes the trees grow thinner and there is a wide meadow with a wooden bench. From \
there one can see the roofs of the village, the road to the next town and, on clear days, a \
line of blue hills.

Bread is made of very few things. Flour, water and salt are mixed in a large bowl, and a little \
yeast is added. The dough has to rest for several hours in a warm place until it is twice as \
large as before. Then it is folded, shaped and put into the oven. A good loaf has a dark crust \
and sounds hollow when it is tapped from below. It should cool down before it is cut.

A library keeps more than books. There are maps, letters, newspapers and photographs, and \
somebody has to know where each of them lies. Every new item gets a number and a short \
description, which says what it is, how old it may be and where it came from. Without such a \
list a large collection would soon be of no use, because nothing in it could be found again.

When the first trains ran through the valley, people set their clocks by them. The morning \
train brought the post and the evening train took the milk to the city. Later a second track \
was built, and the small wooden station was replaced by one of brick. Today only a few \
passengers get off here, but the clock above the door still works, and in summer there are \
flowers in front of the windows.
"""
"""Written for this suite, and in the public domain."""
