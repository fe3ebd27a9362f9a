"""How a CPU carries out the convolutions: forms, and the choice among them."""
