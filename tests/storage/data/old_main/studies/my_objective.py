"""A person's own objective, beside the study file."""

import random
import time


def loss(params, seed):
    """Fit y = a x + b to noisy points by stochastic gradient descent."""
    draw = random.Random(seed)
    points = [(x / 50, 0.7 * x / 50 + 0.2 + draw.gauss(0, 0.1)) for x in range(100)]
    draw.shuffle(points)
    train, held_out = points[:80], points[80:]
    a = b = 0.0
    for step in range(1, 501):
        x, y = draw.choice(train)
        error = a * x + b - y
        a, b = a - params["rate"] * error * x, b - params["rate"] * error
        if step % 50 == 0:
            time.sleep(0.02)  # as if it had more to do
            yield step, mean_square(a, b, train), mean_square(a, b, held_out)


def mean_square(a, b, points):
    return sum((a * x + b - y) ** 2 for x, y in points) / len(points)
