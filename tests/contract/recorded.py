"""The recorded bodies, and what must be read from each."""

from pathlib import Path

SAMPLES = Path(__file__).parents[1] / "samples"

EXPECTED = {
    # command: (routing key, ordering key)
    "callbackBeforeSendSingleMsgCommand": (
        "message.before.send_single_msg",
        "si_user_a_user_b",
    ),
    "callbackAfterSendSingleMsgCommand": ("message.after.send_single_msg", "si_user_a_user_b"),
    "callbackBeforeSendGroupMsgCommand": ("message.before.send_group_msg", "sg_3012345678"),
    "callbackAfterSendGroupMsgCommand": ("message.after.send_group_msg", "sg_3012345678"),
    "callbackBeforeMsgModifyCommand": ("message.before.msg_modify", "user_a"),
    "callbackAfterMsgSaveDBCommand": ("message.after.msg_save_db", "si_user_a_user_b"),
    "callbackAfterSingleMsgReadCommand": ("message.after.single_msg_read", "si_user_a_user_b"),
    "callbackAfterGroupMsgReadCommand": ("message.after.group_msg_read", "user_b"),
    "callbackBeforeAfterMsgCommand": ("message.after.revoke_msg", "si_user_a_user_b"),
    "callbackAfterUserOnlineCommand": ("presence.after.user_online", "user_a"),
    "callbackAfterUserOfflineCommand": ("presence.after.user_offline", "user_a"),
    "callbackAfterUserKickOffCommand": ("presence.after.user_kick_off", "user_a"),
    "callbackBeforeOnlinePushCommand": ("push.before.online_push", "user_a,user_a,user_b"),
    "callbackBeforeOfflinePushCommand": ("push.before.offline_push", "user_a,user_b"),
    "callbackBeforeGroupOnlinePushCommand": ("push.before.group_online_push", "sg_3012345678"),
    "callbackBeforeAddFriendCommand": ("friend.before.add_friend", "user_a,user_b"),
    "callbackAfterAddFriendCommand": ("friend.after.add_friend", "user_a,user_b"),
    "callbackBeforeAddFriendAgreeCommand": ("friend.before.add_friend_agree", "user_a,user_b"),
    "callbackAfterAddFriendAgreeCommand": ("friend.after.add_friend_agree", "user_a,user_b"),
    "callbackBeforeSetFriendRemarkCommand": (
        "friend.before.set_friend_remark",
        "user_a,user_b",
    ),
    "callbackAfterSetFriendRemarkCommand": ("friend.after.set_friend_remark", "user_a,user_b"),
    "callbackBeforeImportFriendsCommand": ("friend.before.import_friends", "user_a"),
    "callbackAfterImportFriendsCommand": ("friend.after.import_friends", "user_a"),
    "callbackAfterDeleteFriendCommand": ("friend.after.delete_friend", "user_a,user_b"),
    "callbackBeforeAddBlackCommand": ("black_list.before.add_black", "user_a,user_x"),
    "callbackAfterRemoveBlackCommand": ("black_list.after.remove_black", "user_a,user_x"),
    "callbackBeforeUserRegisterCommand": ("user.before.user_register", "user_a"),
    "callbackAfterUserRegisterCommand": ("user.after.user_register", "user_a"),
    "callbackBeforeUpdateUserInfoCommand": ("user.before.update_user_info", "user_a"),
    "callbackAfterUpdateUserInfoCommand": ("user.after.update_user_info", "user_a"),
    "callbackBeforeUpdateUserInfoExCommand": ("user.before.update_user_info_ex", "user_a"),
    "callbackAfterUpdateUserInfoExCommand": ("user.after.update_user_info_ex", "user_a"),
    "callbackBeforeCreateGroupCommand": ("group.before.create_group", "user_a"),
    "callbackAfterCreateGroupCommand": ("group.after.create_group", "3012345678"),
    "callbackBeforeMembersJoinGroupCommand": ("group.before.members_join_group", "3012345678"),
    "callbackBeforeInviteJoinGroupCommand": ("group.before.invite_join_group", "3012345678"),
    "callbackBeforeJoinGroupCommand": ("group.before.join_group", "3012345678"),
    "callbackAfterJoinGroupCommand": ("group.after.join_group", "3012345678"),
    "callbackAfterQuitGroupCommand": ("group.after.quit_group", "3012345678"),
    "callbackAfterKickGroupCommand": ("group.after.kick_group", "3012345678"),
    "callbackAfterDisMissGroupCommand": ("group.after.dis_miss_group", "3012345678"),
    "callbackAfterTransferGroupOwnerCommand": (
        "group.after.transfer_group_owner",
        "3012345678",
    ),
    "callbackBeforeSetGroupInfoCommand": ("group.before.set_group_info", "3012345678"),
    "callbackAfterSetGroupInfoCommand": ("group.after.set_group_info", "3012345678"),
    "callbackBeforeSetGroupInfoExCommand": ("group.before.set_group_info_ex", "3012345678"),
    "callbackAfterSetGroupInfoExCommand": ("group.after.set_group_info_ex", "3012345678"),
    "callbackBeforeSetGroupMemberInfoCommand": (
        "group.before.set_group_member_info",
        "3012345678",
    ),
    "callbackAfterSetGroupMemberInfoCommand": (
        "group.after.set_group_member_info",
        "3012345678",
    ),
    "callbackBeforeCreateSingleChatConversationsCommand": (
        "conversation.before.create_single_chat_conversations",
        "si_user_a_user_b",
    ),
    "callbackAfterCreateSingleChatConversationsCommand": (
        "conversation.after.create_single_chat_conversations",
        "si_user_a_user_b",
    ),
    "callbackBeforeCreateGroupChatConversationsCommand": (
        "conversation.before.create_group_chat_conversations",
        "sg_3012345678",
    ),
    "callbackAfterCreateGroupChatConversationsCommand": (
        "conversation.after.create_group_chat_conversations",
        "sg_3012345678",
    ),
}


def sample(command: str) -> bytes:
    """Give the recorded body of a command."""
    return (SAMPLES / f"{command}.json").read_bytes()
