"""Settings as values: their tokens, their order, and how a person reads one."""

from slipway.training.tuning.setting import Result, Setting


def test_tokens_of_a_micro_batch():
    assert Setting(4096, 2, "none").tokens == 8192


def test_plain_is_the_attention_and_the_loss_of_the_untuned_recipe():
    assert Setting(4096, 2, "none").plain and Setting(512, 1, "full").plain
    assert not Setting(4096, 2, "none", "eager").plain
    assert not Setting(4096, 2, "none", "sdpa", "chunked").plain


def test_a_setting_reads_as_micro_batch_by_pack():
    assert str(Setting(4096, 2, "selective", "eager", "chunked")) == "2 x 4096, selective, eager, chunked"


def test_settings_are_keys_and_have_an_order():
    assert {Setting(512, 1, "full"), Setting(512, 1, "full", "sdpa", "masked")} == {Setting(512, 1, "full")}
    assert sorted([Setting(1024, 1, "full"), Setting(512, 8, "none")])[0].pack_length == 512


def test_a_result_that_was_not_timed_has_no_rate():
    assert Result(Setting(512, 1, "full"), "oom").tokens_per_s == 0.0
