"""The meter, on steps whose peak is known."""

from __future__ import annotations

import torch

from autopeft.meters import measure_peak, storage_bytes

CPU = torch.device("cpu")
FLOAT = 4


def test_counts_what_lives_at_once():
    weights = torch.zeros(1000)

    def step():
        first = torch.empty(3000)
        second = torch.empty(2000)
        del first
        third = torch.empty(2500)
        del second, third

    assert measure_peak(step, CPU, [weights]) == FLOAT * (1000 + 5000)


def test_what_the_first_step_leaves_counts_in_the_second():
    state: list[torch.Tensor] = []

    def step():
        if not state:
            state.append(torch.empty(4000))
        torch.empty(1000)

    assert measure_peak(step, CPU, []) == FLOAT * 5000


def test_memory_from_before_is_neither_counted_nor_taken_off_when_it_goes():
    before = [torch.empty(100_000)]

    def step():
        before.clear()
        torch.empty(500)

    assert measure_peak(step, CPU, []) == FLOAT * 500
    assert measure_peak(lambda: torch.empty(700), CPU, []) == FLOAT * 700


def test_shared_storages_count_once():
    weight = torch.zeros(10, 10)
    assert storage_bytes([weight, weight.t(), weight[:3], torch.zeros(7)]) == FLOAT * 107


def test_meets_activations_gradients_and_optimizer_state():
    layer = torch.nn.Linear(300, 200, bias=False)
    optimizer = torch.optim.AdamW(layer.parameters(), lr=0.0, foreach=False)
    x = torch.ones(1, 300)

    def step():
        layer(x).sum().backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    weights = FLOAT * 300 * 200
    peak = measure_peak(step, CPU, layer.parameters())
    assert 6 * weights <= peak <= 6.1 * weights  # weights, gradients, two moments, two temporaries


def test_views_of_one_buffer_count_for_themselves_and_tied_weights_once():
    buffer = torch.empty(1000)
    assert storage_bytes([buffer[:100], buffer[500:700]]) == FLOAT * 300
    assert storage_bytes([buffer, buffer.view(10, 100)]) == FLOAT * 1000
