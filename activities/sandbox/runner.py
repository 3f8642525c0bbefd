"""Runs one execution in one container: hand over, read, end in time, decide, clean up."""

import asyncio
import contextlib
import secrets as randomness
import time
from collections.abc import Callable, Mapping

from activities.sandbox.box import Box
from activities.sandbox.egress import EgressSession
from activities.sandbox.egress_policy import EgressSettings
from activities.sandbox.engine import ENGINE_ERRORS, Engine
from activities.sandbox.outcome import ContainerState, build_result
from activities.sandbox.output import OutputCollector, OutputListener
from activities.sandbox.pool import WarmPool
from activities.sandbox.reaper import keep_reaping
from activities.sandbox.settings import SandboxSettings
from activities.sandbox.spec import ContainerClass
from activities.sandbox.starter import Starter
from activities.telemetry.tracing import RUN_ATTRIBUTE, span
from models.sandbox import (
    ExitReason,
    SandboxImageError,
    SandboxRequest,
    SandboxResult,
    SandboxUnavailableError,
)

Heartbeat = Callable[[], None]
HEARTBEAT_SECONDS = 0.5
# The supervisor ends the agent at the time limit and reports; this is for when it cannot.
OUTER_GRACE_SECONDS = 0.7
# After a kill the engine closes the streams within some 50 ms; past this it is taken for lost.
END_AFTER_KILL_SECONDS = 10.0


class SandboxRunner:
    """Runs agents on one engine. Create it once per worker: `start`, any number of `run`, `close`."""

    def __init__(self, settings: SandboxSettings | None = None, egress: EgressSettings | None = None) -> None:
        self.settings = settings or SandboxSettings()
        self.egress = egress or EgressSettings()
        self.engine = Engine(self.settings.docker_host)
        self.starter = Starter(self.engine, self.settings)
        self._reaping: asyncio.Task[None] | None = None
        self.pool = WarmPool(self.starter, self.settings)

    async def start(self) -> None:
        """Look at the engine, begin to fill the pool and to remove orphans.

        Raises:
            SandboxUnavailableError: The engine does not answer.
            SandboxImageError: It has no agent image.
        """
        await self.starter.host()
        self.pool.start()
        self._reaping = asyncio.create_task(keep_reaping(self.engine, self.settings))

    async def close(self) -> None:
        """Remove what is left and close the connections."""
        if self._reaping is not None:
            self._reaping.cancel()
            await asyncio.gather(self._reaping, return_exceptions=True)
        await self.pool.close()
        await self.engine.close()

    async def reachable(self) -> None:
        """Ask the engine for a sign of life; raises whatever it raises where there is none."""
        await self.engine.call(lambda client: client.ping())

    async def run(
        self,
        request: SandboxRequest,
        *,
        secrets: Mapping[str, str] | None = None,
        on_output: OutputListener | None = None,
        heartbeat: Heartbeat | None = None,
    ) -> SandboxResult:
        """Run one execution and report how it ended; the agent's failures are results, not errors.

        Cancelling the caller kills and removes the container, then raises ``CancelledError`` again.

        Args:
            request: Code, inputs, limits.
            secrets: Values of the manifest's credentials by ``config_key``; only the egress broker sees them.
            on_output: Called with ``"stdout" | "stderr"`` and bytes as they come, up to the caps.
            heartbeat: Called about every half second while the execution is under way.
        """
        beating = asyncio.create_task(_beat(heartbeat)) if heartbeat is not None else None
        try:
            kind = ContainerClass.of(request.runtime, request.limits)
            try:
                box = await self.pool.take(kind) or await self.starter.cold(kind, request)
            except (SandboxUnavailableError, SandboxImageError) as error:
                return SandboxResult(exit_reason=ExitReason.INFRA_LOST, started=False, detail=error.message)
            except ENGINE_ERRORS as error:
                return SandboxResult(exit_reason=ExitReason.INFRA_LOST, started=False, detail=str(error))
            try:
                facts = {RUN_ATTRIBUTE: request.execution_id, "sandbox.runtime": str(request.runtime)}
                with span("sandbox run", facts):
                    return await self._execute_connected(box, request, secrets or {}, on_output)
            except asyncio.CancelledError:
                await asyncio.shield(self.starter.discard(box))
                raise
            finally:
                # The result is known when the supervisor has reported; the removal need not be waited for.
                self.starter.discard(box)
                self.pool.refill()
        finally:
            if beating is not None:
                beating.cancel()

    async def _execute_connected(
        self, box: Box, request: SandboxRequest, secrets: Mapping[str, str], on_output: OutputListener | None
    ) -> SandboxResult:
        """Execute with the declared way out, if any, and add its record to the result."""
        if not request.network:
            return await self._execute(box, request, on_output)
        try:
            session = await EgressSession.listen(box.egress_folder, request.network, secrets, self.egress)
        except OSError as error:
            detail = f"the egress broker cannot listen: {error}"
            return SandboxResult(exit_reason=ExitReason.INFRA_LOST, started=False, detail=detail)
        try:
            result = await self._execute(box, request, on_output)
        finally:
            await session.close()
        ledger = session.ledger
        return result.model_copy(update={"egress": ledger.decisions, "egress_refused": ledger.refused})

    async def _execute(
        self, box: Box, request: SandboxRequest, on_output: OutputListener | None
    ) -> SandboxResult:
        limits = request.limits
        token = randomness.token_hex(32)
        output = OutputCollector(limits, token, on_output)
        over_cap = asyncio.Event()
        killed_by: ExitReason | None = None
        state: ContainerState | None = None
        lost = ""
        draining = asyncio.create_task(_drain(box, output, over_cap))
        feeding = asyncio.create_task(box.feed(request, token))
        over = asyncio.create_task(over_cap.wait())
        # Only for people and the reaper: the agent does not wait for its container's name.
        naming = asyncio.create_task(box.rename(Box.name_of(request)) if box.warm else _nothing())
        try:
            await asyncio.wait(
                {feeding, draining}, timeout=self.settings.start_timeout, return_when=asyncio.FIRST_COMPLETED
            )
            begun = time.monotonic()
            if feeding.done() and (error := feeding.exception()) is not None:
                lost = f"the container went away: {error}"
            else:
                await asyncio.wait(
                    {draining, over},
                    timeout=limits.timeout_ms / 1000 + OUTER_GRACE_SECONDS,
                    return_when=asyncio.FIRST_COMPLETED,
                )
            elapsed_ms = round((time.monotonic() - begun) * 1000)
            if not draining.done():
                if not lost:
                    killed_by = ExitReason.OUTPUT_CAP if over_cap.is_set() else ExitReason.TIMEOUT
                try:
                    await box.kill()
                    await asyncio.wait({draining}, timeout=END_AFTER_KILL_SECONDS)
                except ENGINE_ERRORS as error:
                    lost = f"the engine does not answer: {error}"
            if output.report() is None and killed_by is None:
                state = await box.state()
        finally:
            for task in (draining, feeding, over):
                task.cancel()
            await asyncio.gather(draining, feeding, over, naming, return_exceptions=True)
        return build_result(
            output, limits, killed_by=killed_by, state=state, fed=box.fed, elapsed_ms=elapsed_ms, lost=lost
        ).model_copy(update={"warm": box.warm})


async def _drain(box: Box, output: OutputCollector, over_cap: asyncio.Event) -> None:
    """Read until the supervisor has reported or the streams have ended; never stop before."""
    while not output.complete:
        frame = await box.read()
        if frame is None:
            output.finish()
            return
        output.feed(*frame)
        if output.over_cap is not None:
            over_cap.set()


async def _nothing() -> None:
    """No work."""


async def _beat(heartbeat: Heartbeat) -> None:
    with contextlib.suppress(asyncio.CancelledError):
        while True:
            heartbeat()
            await asyncio.sleep(HEARTBEAT_SECONDS)
