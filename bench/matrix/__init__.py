"""What is to be computed: the matrix as data, its cells and what identifies them."""
