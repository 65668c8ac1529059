"""All dashboards, in the order in which a person looks at them."""

from corral_dashboards.capacity import CAPACITY
from corral_dashboards.farm import FARM
from corral_dashboards.faults import FAULTS
from corral_dashboards.gate import GATE
from corral_dashboards.gpu import GPU
from corral_dashboards.model import MODEL

DASHBOARDS = (FARM, MODEL, GPU, GATE, CAPACITY, FAULTS)
