"""The suite that every store passes: ours, and yours.

    class TestMyStore(StoreContract):
        @pytest.fixture
        def store(self):
            store = MyStore(...)
            yield store
            store.close()

Each test is one sentence of the contract. The suite needs nothing but the store: instants are given, nothing sleeps.
"""

from bgsched.testing.contract._tools import T0, FixedPlanner, make_request, sign_on
from bgsched.testing.contract.asking import Asking
from bgsched.testing.contract.claiming import Claiming
from bgsched.testing.contract.filing import Filing
from bgsched.testing.contract.groups import Groups
from bgsched.testing.contract.living import Living
from bgsched.testing.contract.purging import Purging
from bgsched.testing.contract.reporting import Reporting

__all__ = ["T0", "FixedPlanner", "StoreContract", "make_request", "sign_on"]


class StoreContract(Filing, Claiming, Groups, Reporting, Living, Asking, Purging):
    """Derive from it and supply a fixture ``store``: an empty store."""
