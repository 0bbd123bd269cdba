"""How far methods agree about the points of a grid."""
