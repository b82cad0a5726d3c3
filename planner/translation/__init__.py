"""Other ways of saying what moves, as plans; and plans as those."""
