"""What amqtt is told by a plugin: shared subscriptions are refused."""

from __future__ import annotations

from amqtt.contexts import Action
from amqtt.plugins.base import BaseTopicPlugin
from amqtt.session import Session


class NoSharedSubscriptions(BaseTopicPlugin):  # type: ignore[misc]  # amqtt has no types
    """Answers a shared subscription with failure: amqtt would grant it and take the filter by its letters."""

    async def topic_filtering(
        self, *, session: Session | None = None, topic: str | None = None, action: Action | None = None
    ) -> bool:
        """Tell whether a client may do that."""
        return action is not Action.SUBSCRIBE or not (topic or "").startswith("$share/")
