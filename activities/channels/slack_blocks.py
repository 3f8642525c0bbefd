"""Slack's Block Kit (flowgrid-level3 §6.3): everything escaped, everything within Slack's limits."""

import json
from typing import Any

from models.approval import ApprovalState, ApprovalType, NoticeKind
from models.approval_records import ApprovalRow

HEADER_CHARACTERS = 150
SECTION_CHARACTERS = 3000
CONTEXT_LINES = 20
VALUE_CHARACTERS = 300

REJECT_MODAL = "approval_reject"
REASON_BLOCK = "reason"

_HEADINGS = {
    NoticeKind.APPROVAL: "Approval needed",
    NoticeKind.REMINDER: "Reminder: approval needed",
    NoticeKind.ESCALATION: "Escalated to you",
    NoticeKind.BREACH: "Overdue",
    NoticeKind.QUESTION: "A question about an approval",
}


def escape(text: str) -> str:
    """Escape what Slack's mrkdwn gives a meaning: no link, mention or broadcast comes from a value."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def cut(text: str, limit: int) -> str:
    """Shorten ``text`` to at most ``limit`` characters, without an escape torn in two."""
    if len(text) <= limit:
        return text
    short = text[: limit - 1]
    start = short.rfind("&")
    if start >= 0 and ";" not in short[start:] and len(short) - start < 6:
        short = short[:start]
    return short + "…"


def fallback_text(row: ApprovalRow, kind: NoticeKind) -> str:
    """Return what notifications and screen readers say."""
    return cut(escape(f"{_HEADINGS[kind]}: {row.title}"), SECTION_CHARACTERS)


def open_blocks(row: ApprovalRow, kind: NoticeKind, link: str) -> list[dict[str, Any]]:
    """Return the message for a request that can be decided."""
    blocks = _body(row, f"{_HEADINGS[kind]}: {row.title}")
    value = f"{row.id}.{row.payload_hash}"
    buttons = [_button(*button, value) for button in _BUTTONS[row.type]]
    elements = [
        *buttons,
        {"type": "button", "text": _plain("Open"), "url": link, "action_id": "approval_open"},
    ]
    blocks.append({"type": "actions", "block_id": f"approval:{row.id}", "elements": elements})
    if row.due_at is not None:
        moment = int(row.due_at.timestamp())
        date = f"<!date^{moment}^{{date_short_pretty}} at {{time}}|{row.due_at.isoformat()}>"
        blocks.append({"type": "context", "elements": [{"type": "mrkdwn", "text": f"Due: {date}"}]})
    return blocks


def final_blocks(row: ApprovalRow) -> list[dict[str, Any]]:
    """Return the message of a request that is over: what came out, and no buttons."""
    return [
        *_body(row, row.title),
        {
            "type": "context",
            "elements": [{"type": "mrkdwn", "text": cut(escape(ending(row)), SECTION_CHARACTERS)}],
        },
    ]


def ending(row: ApprovalRow) -> str:
    """Say in a sentence how a request ended."""
    if row.state is ApprovalState.OPEN:
        return "It is still open."
    word = {"approved": "Approved", "rejected": "Rejected"}.get(row.result or "", row.state.capitalize())
    whom = f" by {row.completed_by}" if row.completed_by else ""
    when = "" if row.completed_at is None else f" on {row.completed_at:%Y-%m-%d %H:%M} UTC"
    why = f": {row.close_reason}" if row.close_reason else ""
    return f"{word}{whom}{when}{why}."


def reject_modal(row_title: str, metadata: str) -> dict[str, Any]:
    """Return the window that asks for the reason of a rejection."""
    return {
        "type": "modal",
        "callback_id": REJECT_MODAL,
        "private_metadata": metadata[:3000],
        "title": _plain("Reject"),
        "submit": _plain("Reject"),
        "close": _plain("Back"),
        "blocks": [
            {
                "type": "section",
                "text": {"type": "plain_text", "text": cut(row_title or "-", 300), "emoji": False},
            },
            {
                "type": "input",
                "block_id": REASON_BLOCK,
                "label": _plain("Why?"),
                "element": {
                    "type": "plain_text_input",
                    "action_id": REASON_BLOCK,
                    "multiline": True,
                    "max_length": 3000,
                },
            },
        ],
    }


_APPROVE = ("Approve", "approve", "primary")
_REJECT = ("Reject", "reject", "danger")
_BUTTONS: dict[ApprovalType, tuple[tuple[str, str, str | None], ...]] = {
    ApprovalType.APPROVE_REJECT: (_APPROVE, _REJECT),
    ApprovalType.REVIEW_EDIT: (_APPROVE, _REJECT),
    ApprovalType.INFORM: (("Got it", "approve", "primary"),),
    ApprovalType.MANUAL_TASK: (("I have seen it", "acknowledge", None),),
    ApprovalType.VETO: (
        ("Veto", "reject", "danger"),
        ("I have seen it", "acknowledge", None),
        ("Let it go on", "approve", "primary"),
    ),
}


def _body(row: ApprovalRow, heading: str) -> list[dict[str, Any]]:
    blocks: list[dict[str, Any]] = [{"type": "header", "text": _plain(cut(heading, HEADER_CHARACTERS))}]
    if row.description.strip():
        blocks.append(_section(escape(row.description)))
    lines = [
        f"*{cut(escape(str(name)), 100)}:* {cut(escape(_shown(value)), VALUE_CHARACTERS)}"
        for name, value in list({**row.context, **row.payload}.items())[:CONTEXT_LINES]
    ]
    if lines:
        blocks.append(_section("\n".join(lines)))
    return blocks


def _shown(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _section(text: str) -> dict[str, Any]:
    return {"type": "section", "text": {"type": "mrkdwn", "text": cut(text, SECTION_CHARACTERS)}}


def _plain(text: str) -> dict[str, Any]:
    return {"type": "plain_text", "text": text, "emoji": False}


def _button(label: str, action: str, style: str | None, value: str) -> dict[str, Any]:
    button: dict[str, Any] = {
        "type": "button",
        "text": _plain(label),
        "value": value,
        "action_id": f"approval_{action}",
    }
    return button if style is None else {**button, "style": style}
