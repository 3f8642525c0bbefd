"""What a process needs of the store to let an agent work: which deployment, and what it answered."""

import asyncio

from temporalio import activity

from activities.records.executions import DeployedAgent, find_deployed_agent, find_execution
from activities.services import Services
from models.errors import NotFoundError
from models.execution import ExecutionRequest, ExecutionResult, InvalidInputsError
from models.identifiers import derived_identifier
from models.json_schema import violations
from models.process_run import AgentCallRequest, TaskAnswer

_DEPLOYED = """
SELECT d.id FROM agent_deployments d JOIN agents a ON a.id = d.agent_id
WHERE a.slug = %s
ORDER BY d.created_at DESC, d.id DESC LIMIT 1
"""


class AgentNotDeployedError(NotFoundError):
    """A process names an agent that its tenant has not deployed."""

    code = "AGENT_NOT_DEPLOYED"

    def __init__(self, slug: str) -> None:
        super().__init__(
            f"The tenant has no deployment of an agent {slug[:100]}; deploy it, then retry the incident.",
            details={"agent_slug": slug[:100]},
        )


class AgentCallActivities:
    """The activities of ``AgentCall``."""

    def __init__(self, services: Services) -> None:
        """Work on ``services``."""
        self._database = services.database

    @activity.defn(name="prepare_execution")
    async def prepare_execution(self, call: AgentCallRequest) -> ExecutionRequest:
        """Find the tenant's newest deployment of the agent and check the inputs.

        Raises:
            AgentNotDeployedError: The tenant has none.
            InvalidInputsError: The task's inputs do not fit the agent's schema.
        """
        async with self._database.tenant(call.tenant_id) as connection:
            row = await (await connection.execute(_DEPLOYED, [call.agent_slug])).fetchone()
            agent = None if row is None else await find_deployed_agent(connection, row["id"])
        if agent is None:
            raise AgentNotDeployedError(call.agent_slug)
        problems = await asyncio.to_thread(violations, call.inputs, agent.manifest.input_schema)
        if problems:
            raise InvalidInputsError([problem.model_dump() for problem in problems])
        return _request(call, agent)

    @activity.defn(name="answer_of_execution")
    async def answer_of_execution(self, call: AgentCallRequest, result: ExecutionResult) -> TaskAnswer:
        """Read what an execution gives its task: released outputs, or why there are none."""
        answer = TaskAnswer(key=call.caller.key, attempt=call.caller.attempt, by=call.agent_slug)
        if result.status == "refused":
            return answer.model_copy(update={"failure": "The purchase of the execution was refused."})
        async with self._database.tenant(call.tenant_id) as connection:
            found = (await find_execution(connection, result.execution_id)).execution
        if result.status == "success":
            outputs = found.outputs if isinstance(found.outputs, dict) else {"result": found.outputs}
            return answer.model_copy(update={"variables": outputs})
        return answer.model_copy(
            update={"error_code": found.error_code or "AGENT_FAILED", "message": found.error_message or ""}
        )


def _request(call: AgentCallRequest, agent: DeployedAgent) -> ExecutionRequest:
    manifest = agent.manifest
    caller = call.caller
    return ExecutionRequest(
        execution_id=derived_identifier("execution", caller.instance_id, caller.key, caller.attempt),
        tenant_id=call.tenant_id,
        user_id=call.user_id,
        deployment_id=agent.deployment_id,
        agent_id=agent.agent_id,
        agent_slug=agent.agent_slug,
        version_id=agent.version_id,
        developer_id=agent.developer_id,
        developer_tenant_id=agent.developer_tenant_id,
        code_hash=agent.code_hash,
        timeout_ms=manifest.timeout_ms,
        attempts=3 if manifest.retry_on_failure else 1,
        repeatable=not manifest.network or manifest.retry_on_failure,
        price_amount=manifest.pricing.amount,
        price_currency=manifest.pricing.currency,
        cost_cap=call.cost_cap,
        correlation_id=call.correlation_id,
        inputs=call.inputs,
    )
