# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The runbooks again on the PostgreSQL of the PyPI wheel, when the other tests run on the machine's own."""

from __future__ import annotations

import typing as t

import pytest
from conftest import TestCluster
from test_staging_migrate import (  # noqa: F401 - tests that run here on another server
    test_half_applied_migration_is_rolled_back,
    test_rollback_asks_shows_the_loss_and_goes_back,
)

from tools.pgserver import Cluster, PgServerError, find_programs

# Each major version has its own tests, see test_matrix.py.
pytestmark = pytest.mark.exhaustive


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> t.Iterator[TestCluster]:
    """A server of the wheel, in place of the session's."""
    try:
        own, wheel = find_programs(), find_programs(source="wheel")
    except PgServerError as error:
        pytest.skip(str(error))
    if own.version[0] == wheel.version[0]:
        pytest.skip("all tests run on PostgreSQL %d already" % own.version[0])
    with Cluster(tmp_path_factory.mktemp("wheel"), fast=True, source="wheel", temporary=True) as server:
        yield TestCluster(server)
