"""Threefry-2x32 with 20 rounds on NumPy's uint64, written from the law: the oracle of random words."""

import numpy as np

MASK = np.uint64(0xFFFFFFFF)


def words(key: tuple[int, int], first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The two uint32 words of each counter (first, second)."""
    k = [np.uint64(key[0]), np.uint64(key[1]), np.uint64(key[0] ^ key[1] ^ 0x1BD11BDA)]
    x, y = (np.asarray(c).astype(np.uint64) for c in (first, second))
    x, y = (x + k[0]) & MASK, (y + k[1]) & MASK
    for group in range(5):
        for rotation in ((13, 15, 26, 6), (17, 29, 16, 24))[group % 2]:
            x = (x + y) & MASK
            y = ((y << np.uint64(rotation) | y >> np.uint64(32 - rotation)) & MASK) ^ x
        x = (x + k[(group + 1) % 3]) & MASK
        y = (y + k[(group + 2) % 3] + np.uint64(group + 1)) & MASK
    return x.astype(np.uint32), y.astype(np.uint32)


def of_elements(seed: int, draw: int, shape: tuple[int, ...]) -> np.ndarray:
    """uint32 [*shape]: the word of each element of a tensor, by its row-major index."""
    places = np.arange(int(np.prod(shape, dtype=int)), dtype=np.uint64).reshape(shape)
    return words((seed & 0xFFFFFFFF, seed >> 32), places, np.full(shape, draw))[0]
