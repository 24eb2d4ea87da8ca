"""Questions and answers on which small models are trained, made from seeds: no data set is shipped or downloaded.

>>> from experts.data import correct, examples
>>> example = next(examples("math", "test", "seen", seed=0))
>>> correct(example, example.answer)
True
"""

from experts.data.corpus import library_texts as library_texts
from experts.data.others import OTHER as OTHER
from experts.data.splits import DOMAINS as DOMAINS
from experts.data.splits import TASKS as TASKS
from experts.data.splits import correct as correct
from experts.data.splits import examples as examples
from experts.data.splits import others as others
from experts.data.tasks import Example as Example
from experts.data.tasks import Task as Task
