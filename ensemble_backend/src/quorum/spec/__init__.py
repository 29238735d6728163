# SPDX-License-Identifier: Apache-2.0
"""``deploy.yaml``, the one place where a deployment is described, as typed and checked Python objects."""

from quorum.spec.load import SpecError, load_spec
from quorum.spec.model import Deployment, MemberSpec

__all__ = ["Deployment", "MemberSpec", "SpecError", "load_spec"]
