"""Rules as a test puts them into the table, in force for the next event."""

from typing import Any

from schema.database import Connection


async def insert_rule(db: Connection, **columns: Any) -> str:
    """A rule of the metric `temp` with these columns; for the others the defaults of the table count."""
    rule: dict[str, Any] = {
        "metric": "temp", "severity": "warning", "for_s": 0.0, "cooldown_s": 0.0, "notify": "every",
        "enabled": True,
    } | columns  # fmt: skip
    names, values = ", ".join(rule), ", ".join(f"${n}" for n in range(1, len(rule) + 1))
    async with db.transaction():
        rule_id = await db.fetchval(
            f"insert into rule ({names}) values ({values}) returning rule_id", *rule.values()
        )
        await db.execute("update config set rules_version = rules_version + 1")
    return str(rule_id)
