"""The page of devices: what they are, what their agents do, and how far they have measured."""

from __future__ import annotations

import httpx

from archsmith.service.store.device_tasks import NewTask


def test_devices_page_tells_agents_and_measurements(served):
    store = served.store
    store.put_device("quiet", {"name": "quiet", "title": "A <quiet> board", "kind": "cpu"})
    store.tasks.hello("busy", {"cpu": "A busy board", "runtime": "onnxruntime 1"})
    store.tasks.submit("busy", [NewTask(key=key, model={}, timing={}) for key in ("a", "b", "c")])
    held = store.tasks.claim("busy", "agent", 60.0)
    store.tasks.finish(held[0], {"latency_ms": 1.0})
    page = httpx.get(f"{served.url}/devices").text
    assert "A &lt;quiet&gt; board" in page
    assert "none so far" in page
    assert "A busy board" in page
    assert "at work" in page
    assert "1 measured, 2 left" in page
    assert "measurement" not in httpx.get(f"{served.url}/jobs").text.lower()
