"""Every table of ours, for those who make all of them: the workers, who own them."""

from consumers import dead_letter_audit, inbox, pauses
from consumers.console import audit
from consumers.friends import relations, verifications
from consumers.messages import archive

ALL = (
    inbox.TABLE,
    relations.TABLE,
    verifications.TABLE,
    archive.MESSAGES,
    archive.REVOCATIONS,
    archive.ERASURES,
    pauses.TABLE,
    dead_letter_audit.TABLE,
    audit.TABLE,
)
