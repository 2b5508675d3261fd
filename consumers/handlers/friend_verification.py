"""Keeps friend verification messages, friends and black lists in SQL, for the App's backend."""

from collections.abc import Iterable

from bridge.contract import (
    AfterAddFriend,
    AfterAddFriendAgree,
    AfterDeleteFriend,
    AfterImportFriends,
    AfterRemoveBlack,
    AfterSetFriendRemark,
    BeforeAddBlack,
)
from consumers.friends import relations, verifications
from consumers.friends.relations import Change
from consumers.friends.verifications import Verification
from consumers.registry import Context, Handlers

handlers = Handlers("friend_verification")


@handlers.on(AfterAddFriend)
async def record_application(event: AfterAddFriend, context: Context) -> None:
    """Keep who asked whom, and with which words."""
    application = Verification(
        message_id=context.message_id,
        kind="application",
        from_user_id=event.from_user_id,
        to_user_id=event.to_user_id,
        message=event.req_msg,
        result=None,
        received=context.received,
    )
    new = await verifications.add(context.transaction, application)
    context.log.info("friend application recorded", extra={"new": new})


@handlers.on(AfterAddFriendAgree)
async def record_agreement(event: AfterAddFriendAgree, context: Context) -> None:
    """Keep who agreed to be whose friend."""
    await _change(relations.befriended(event.from_user_id, event.to_user_id), context)
    agreement = Verification(
        message_id=context.message_id,
        kind="agreement",
        from_user_id=event.from_user_id,
        to_user_id=event.to_user_id,
        message=event.handle_msg,
        result=event.handle_result,
        received=context.received,
    )
    new = await verifications.add(context.transaction, agreement)
    context.log.info("friend agreement recorded", extra={"new": new})


@handlers.on(AfterImportFriends)
async def record_import(event: AfterImportFriends, context: Context) -> None:
    """Keep whom an administrator made whose friends."""
    imported = event.friend_user_ids or []
    changes = (relations.befriended(event.owner_user_id, friend) for friend in imported)
    await _change([change for both in changes for change in both], context)
    context.log.info("friend import recorded", extra={"friends": len(imported)})


@handlers.on(AfterDeleteFriend)
async def record_deletion(event: AfterDeleteFriend, context: Context) -> None:
    """Keep who is no longer whose friend."""
    await _change(relations.deleted(event.owner_user_id, event.friend_user_id), context)
    context.log.info("friend deletion recorded")


@handlers.on(AfterSetFriendRemark)
async def record_remark(event: AfterSetFriendRemark, context: Context) -> None:
    """Keep what a user calls a friend."""
    remark = relations.remarked(event.owner_user_id, event.friend_user_id, event.remark)
    await _change(remark, context)
    context.log.info("friend remark recorded")


@handlers.on(BeforeAddBlack)
async def record_black_list_addition(event: BeforeAddBlack, context: Context) -> None:
    """Keep who is about to be put on whose black list: nothing tells of it afterwards."""
    addition = relations.black_listed(event.owner_user_id, event.black_user_id, holds=True)
    await _change(addition, context)
    context.log.info("black list addition recorded")


@handlers.on(AfterRemoveBlack)
async def record_black_list_removal(event: AfterRemoveBlack, context: Context) -> None:
    """Keep who was taken off whose black list."""
    removal = relations.black_listed(event.owner_user_id, event.black_user_id, holds=False)
    await _change(removal, context)
    context.log.info("black list removal recorded")


async def _change(changes: Iterable[Change], context: Context) -> None:
    await relations.change(context.transaction, changes, context.message_id, context.received)
