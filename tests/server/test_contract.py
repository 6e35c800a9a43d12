"""Random requests by the OpenAPI document: no answer is an error of ours, or undocumented.

`scripts/test-api` lets schemathesis ask a service in its own process thousands of times.
"""

import pytest
from services import serving

schemathesis = pytest.importorskip("schemathesis")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of the library
def test_random_requests_get_documented_answers(folder):
    with serving(folder / "photos.h5", dups=folder / "dups") as client:
        schema = schemathesis.openapi.from_dict(client.get("/openapi.json").json())
        for found in schema.get_all_operations():
            ask_at_random(client, found.ok())


def ask_at_random(client, operation):
    from hypothesis import HealthCheck, Phase, given, settings

    known = {*operation.definition.raw["responses"]}

    @settings(
        max_examples=3, deadline=None, derandomize=True, database=None,
        phases=[Phase.generate], suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(case=operation.as_strategy())
    def ask(case):
        sent = case.as_transport_kwargs(base_url="http://localhost:8000")
        response = client.request(**{k: v for k, v in sent.items() if v is not None})
        assert str(response.status_code) in known, response.text[:200]
        assert response.status_code != 500

    ask()
