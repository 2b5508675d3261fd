"""Keeps friend applications and agreements in SQL, for the App's backend to show."""

from bridge.contract import AfterAddFriend, AfterAddFriendAgree
from consumers import friend_verifications
from consumers.registry import Context, Handlers

handlers = Handlers("friend_verification")


@handlers.on(AfterAddFriend)
async def record_application(event: AfterAddFriend, context: Context) -> None:
    """Keep who asked whom, and with which words."""
    new = await friend_verifications.add(
        context.transaction,
        message_id=context.message_id,
        kind=friend_verifications.APPLICATION,
        from_user_id=event.from_user_id,
        to_user_id=event.to_user_id,
        message=event.req_msg,
        result=None,
        received=context.received,
    )
    context.log.info("friend application recorded", extra={"new": new})


@handlers.on(AfterAddFriendAgree)
async def record_agreement(event: AfterAddFriendAgree, context: Context) -> None:
    """Keep who agreed to be whose friend."""
    new = await friend_verifications.add(
        context.transaction,
        message_id=context.message_id,
        kind=friend_verifications.AGREEMENT,
        from_user_id=event.from_user_id,
        to_user_id=event.to_user_id,
        message=event.handle_msg,
        result=event.handle_result,
        received=context.received,
    )
    context.log.info("friend agreement recorded", extra={"new": new})
