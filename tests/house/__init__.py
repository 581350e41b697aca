"""Tests of the house itself: floors, purity, file sizes, locks, and that the documentation names all there is."""
