"""The ways in which offload is known to hurt, and where it is shown that plans do not."""

from __future__ import annotations

import re
from pathlib import Path

TESTS = Path(__file__).parents[1]

PAINS: dict[str, tuple[str, ...]] = {
    "1 code paths that hooks never see": (
        "reliability/test_pains.py::test_01_the_execution_device_is_the_plans_whatever_stands_where",
        "virtual/test_pipelines.py::test_our_session_gives_the_same_picture_with_each_component_alone",
        "session/test_streamed.py::test_who_reaches_into_a_block_past_its_entry_fails_or_is_heard",
    ),
    "2 LoRAs and textual inversion": (
        "reliability/test_any_order.py::test_any_order_gives_what_a_plain_pipeline_gives",
        "reliability/test_pains.py::test_02_no_loader_touches_the_plan",
    ),
    "3 a component larger than the card": (
        "session/test_budget.py::test_no_call_passes_the_budget",
        "session/test_session.py::test_out_of_memory_names_the_stage_and_what_is_there",
    ),
    "5 memory that does not come back": (
        "session/test_session.py::test_the_pipeline_is_collected_while_the_session_lives",
        "reliability/test_pains.py::test_05_components_set_to_none_leave_the_device",
    ),
    "6 slower than it has to be": (
        "session/test_session.py::test_evicted_weights_are_not_copied_back",
        "session/test_session.py::test_idle_keep_keeps_and_the_second_call_moves_less",
    ),
    "7 embeddings made outside of the call": (
        "reliability/test_pains.py::test_07_embeddings_made_before_the_call",
        "session/test_session.py::test_uses_outside_of_a_call",
    ),
    "8 pinned memory": (
        "device/test_pinned.py::test_a_budget_is_kept_and_the_rest_stays_pageable",
        "device/test_pinned.py::test_a_machine_that_refuses_is_no_error",
    ),
    "9 hidden state": (
        "session/test_session.py::test_remove_gives_back_every_object_and_every_key",
        "session/test_session.py::test_hooks_of_others_are_kept_and_called",
    ),
    "11 streams and wrong images": (
        "session/test_streamed.py::test_any_order_gives_right_results",
        "session/test_streamed.py::test_every_component_streamed_gives_the_same_picture",
    ),
    "13 a VAE that encodes first": (
        "reliability/test_pains.py::test_13_an_encoding_vae_does_not_stay_in_the_loop",
    ),
    "17 other accelerators": (
        "device/test_capabilities.py::test_pictures_are_the_same_without_it",
        "session/test_session.py::test_the_device_is_refused_where_it_must_be",
    ),
    "19 moving by hand": (
        "session/test_session.py::test_calls_that_scripts_make_by_habit_warn_once_and_do_nothing",
        "session/test_session.py::test_a_component_is_not_moved_from_outside",
    ),
    "20 upgrades": ("virtual/test_pipelines.py::test_diffusers_semantics_move_what_diffusers_moves",),
    "22 torch.compile": (
        "session/test_compile.py::test_compiled_pictures_are_the_same_and_nothing_is_compiled_again",
        "session/test_compile.py::test_a_streamed_component_that_is_compiled_whole_is_refused",
    ),
    "24 components outside of the chain": (
        "reliability/test_pains.py::test_24_a_component_added_later_comes_under_the_plan",
        "session/test_session.py::test_none_excluded_and_on_demand_components",
    ),
    "26 an early end": (
        "reliability/test_pains.py::test_26_an_early_end_leaves_nothing",
        "session/test_session.py::test_an_exception_leaves_nothing_on_the_device_and_the_next_call_is_right",
    ),
    "27 tied tensors": ("reliability/test_pains.py::test_27_tied_weights_stay_tied_and_cross_once",),
    "28 loaded and not used": (
        "reliability/test_pains.py::test_28_a_component_that_is_there_and_does_not_run_holds_nobody",
    ),
    "29 shared components": (
        "reliability/test_several_pipelines.py::test_pipelines_in_turn_give_what_each_gives_alone",
        "reliability/test_several_pipelines.py::test_what_both_have_crosses_once",
    ),
    "30 device maps": (
        "session/test_session.py::test_what_moves_weights_itself_is_refused_with_how_to_undo_it",
    ),
    "33 same seed, another image": (
        "reliability/test_pains.py::test_33_a_generator_of_the_device_makes_the_same_picture",
    ),
    "34 exclusions and None": ("session/test_session.py::test_none_excluded_and_on_demand_components",),
    "37 requests at once": (
        "reliability/test_pains.py::test_37_requests_at_once_are_served_one_after_another",
        "reliability/test_several_pipelines.py::test_threads_with_a_pipeline_each",
    ),
}
"""The numbers are those of the list of pains. What is not here belongs to the compiler (4, 12, 14, 16, 18,
21, 23, 25, 32, 36), is not supported (10, 35), or is tested with the pipeline classes (15, 31)."""


def test_every_test_that_the_table_names_is_there() -> None:
    named = {test for tests in PAINS.values() for test in tests}
    missing = []
    for test in sorted(named):
        path, _, name = test.partition("::")
        if not re.search(rf"^def {name}\(", (TESTS / path).read_text(encoding="utf-8"), re.MULTILINE):
            missing.append(test)
    assert missing == []
