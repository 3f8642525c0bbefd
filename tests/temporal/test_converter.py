"""What crosses Temporal: encrypted, keyed, and our errors by their code."""

import base64
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st
from temporalio.api.common.v1 import Payload
from temporalio.api.failure.v1 import Failure
from temporalio.exceptions import ActivityError, ApplicationError

from activities.temporal.client import data_converter
from activities.temporal.codec import DecryptionError, EncryptionCodec, KeyRing
from activities.temporal.failures import MAX_MESSAGE_CHARACTERS, cut, refusal_of
from models.errors import InsufficientFundsError, PlatformError, UnavailableError
from models.settings import EncryptionKey, Settings

OLD, NEW = EncryptionKey("old", os.urandom(32)), EncryptionKey("new", os.urandom(32))


@given(st.binary(max_size=2000), st.binary(max_size=40))
def test_what_was_encrypted_is_decrypted(plain: bytes, context: bytes) -> None:
    ring = KeyRing([NEW, OLD])
    assert ring.decrypt("new", ring.encrypt(plain, context), context) == plain


@given(st.binary(min_size=1, max_size=200), st.data())
def test_any_changed_bit_is_noticed(plain: bytes, data: st.DataObject) -> None:
    ring = KeyRing([NEW])
    ciphertext = bytearray(ring.encrypt(plain))
    place = data.draw(st.integers(0, len(ciphertext) * 8 - 1))
    ciphertext[place // 8] ^= 1 << place % 8
    with pytest.raises(DecryptionError):
        ring.decrypt("new", bytes(ciphertext))


async def test_payloads_of_an_old_key_stay_readable_after_a_rotation() -> None:
    payload = Payload(metadata={"encoding": b"json/plain"}, data=b'"secret"')
    written = await EncryptionCodec(KeyRing([OLD])).encode([payload])
    assert b"secret" not in written[0].SerializeToString()
    assert await EncryptionCodec(KeyRing([NEW, OLD])).decode(written) == [payload]


async def test_a_lost_key_is_named() -> None:
    written = await EncryptionCodec(KeyRing([OLD])).encode([Payload(data=b"x")])
    with pytest.raises(DecryptionError, match="'old'"):
        await EncryptionCodec(KeyRing([NEW])).decode(written)


def converter():  # type: ignore[no-untyped-def]
    ring = f"k1:{base64.b64encode(bytes(32)).decode()}"
    return data_converter(Settings.model_validate({"encryption_keys": ring}), None)


async def through_temporal(error: BaseException) -> tuple[Failure, BaseException]:
    failure = Failure()
    await converter().encode_failure(error, failure)
    raw = Failure()
    raw.CopyFrom(failure)
    return raw, await converter().decode_failure(failure)


@pytest.mark.parametrize(
    ("error", "retryable"),
    [
        (InsufficientFundsError("Too little.", details={"needed": 5}), False),
        (UnavailableError("Away."), True),
    ],
)
async def test_our_errors_keep_code_message_and_details(error: PlatformError, retryable: bool) -> None:
    raw, read = await through_temporal(error)
    assert error.message.encode() not in raw.SerializeToString()
    assert isinstance(read, ApplicationError)
    assert (read.type, read.non_retryable) == (error.code, not retryable)
    refusal = refusal_of(read)
    assert refusal is not None
    assert (refusal.code, refusal.message, refusal.details) == (error.code, error.message, error.details)


async def test_the_cause_of_our_error_does_not_travel() -> None:
    try:
        try:
            raise OSError("password=hunter2")
        except OSError as cause:
            raise UnavailableError("Away.") from cause
    except UnavailableError as error:
        _, read = await through_temporal(error)
    assert read.__cause__ is None


def test_an_infrastructure_failure_is_no_refusal() -> None:
    error = ActivityError(
        "gone",
        scheduled_event_id=1,
        started_event_id=2,
        identity="w",
        activity_type="a",
        activity_id="1",
        retry_state=None,
    )
    assert refusal_of(error) is None


@given(st.text(max_size=20_000))
def test_a_failure_text_is_never_longer_than_allowed(text: str) -> None:
    assert len(cut(text)) <= MAX_MESSAGE_CHARACTERS + 60
