"""The file that `python -m bench new-method` writes: a method that works, to be changed."""

METHOD = '''"""{title}: say here what the score of a point is, and who proposed it."""

from dataclasses import dataclass

import torch

from methods.core.points import PointGrid
from methods.core.prompts import Prompts
from methods.core.subject import SubjectModel
from methods.method import Attribution, Method, Setting


@dataclass(frozen=True)
class {title}(Method):
    """The score of a point is h . dLD/dh: replace it by your own.

    Attributes:
        power: a setting, as an example: |score| is raised to this power.
    """

    power: float = 1.0

    def fit(
        self, subject: SubjectModel, prompts: Prompts, grid: PointGrid, setting: Setting
    ) -> Attribution:
        """One forward and one backward of all prompts."""
        found = subject.activations_and_gradients(prompts, grid.site_layers)
        scores = torch.zeros((len(prompts), *grid.shape))
        for at, place in enumerate(grid.places):
            for layer in range(grid.n_layers):
                h, gradient = found[place.site, layer]
                products = (h * gradient)[:, list(grid.positions)].float()
                if place.head is not None:
                    products = products[:, :, place.head]
                scores[:, at, layer] = products.sum(dim=-1).cpu()
        scores = scores.sign() * scores.abs() ** self.power
        return Attribution(scores.mean(dim=0), prompt_scores=scores)


METHODS = {{"{name}": {title}}}
'''
