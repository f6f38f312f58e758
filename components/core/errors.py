"""Every error that a user of Diptych can meet, in one tree.

AppError                      anything we can explain; all others are bugs
  InputError                  an argument is not acceptable; names the field
  ProfileError                a YAML profile can't be used
    ProfileSyntaxError        it is not the strict YAML we accept
    ProfileValidationError    a field is unknown, missing or of the wrong type
    ProfileNotFoundError      no profile has that name
  MediaError                  an image can't be used
    UnsupportedFormatError    its content is not JPEG, PNG or WebP
    ImageTooLargeError        it is over a limit of size
    CorruptImageError         it can't be decoded to the end
    AmbiguousPixelsError      its pixels have no single meaning as 8-bit RGB
  EngineError                 a model server can't do its work
    EngineStartError          it did not start
    EngineNotReadyError       it is not (yet) able to answer
    EngineDiedError           it ended while it was working for us
    PreparationError          its model folder can't be made servable
  StreamError                 an answer's stream went wrong
    StreamTruncatedError      it ended without a finish reason
    StreamStalledError        no token came for too long
    EngineFailureError        the server reported a failure
    RequestRefusedError       the server refused the request (a user's error)
    MalformedStreamError      it was not what the protocol says
  JobError                    a job can't do its work
    JobCancelledError         a person asked for its end
    JobStateError             its state does not allow that
    ClusterError              the cluster that runs it can't be asked
  StorageError                records can't be read or written
    RecordNotFoundError       there is no such record
    DatabaseBusyError         another program holds the database
    DiskFullError             there is no space left
    SchemaTooNewError         a newer Diptych wrote this database
    DatabaseCorruptError      the database is damaged
    BlobDamagedError          a stored file is missing or not what its name says
    StateInUseError           another Diptych works in this state directory
  AccessError                 the caller may not do that
    NotPermittedError         sign-in is needed

Every class has a stable ``code``. ``message`` and ``hint`` may be shown to anyone; ``detail`` is for the log only.
"""

from __future__ import annotations


class AppError(Exception):
    """An expected failure: what happened (``message``) and what to do about it (``hint``)."""

    code = "app_error"

    def __init__(self, message: str, hint: str = "", *, field: str | None = None, detail: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.field = field
        self.detail = detail

    def __str__(self) -> str:
        return f"{self.message} {self.hint}".strip()

    def as_record(self) -> dict[str, str | None]:
        """The parts that may be stored and shown."""
        return {"code": self.code, "message": self.message, "hint": self.hint, "field": self.field}


class InputError(AppError):
    """An argument is not acceptable; ``field`` names it and ``hint`` says what is accepted."""

    code = "input"


class ProfileError(AppError):
    """A YAML profile can't be used."""

    code = "profile"


class ProfileSyntaxError(ProfileError):
    """The file is not the strict YAML we accept."""

    code = "profile_syntax"


class ProfileValidationError(ProfileError):
    """A field is unknown, missing or of the wrong type."""

    code = "profile_validation"


class ProfileNotFoundError(ProfileError):
    """No profile has that name."""

    code = "profile_not_found"


class MediaError(AppError):
    """An image can't be used."""

    code = "media"


class UnsupportedFormatError(MediaError):
    """The content is not JPEG, PNG or WebP, whatever the file's name says."""

    code = "unsupported_format"


class ImageTooLargeError(MediaError):
    """The image is over a limit of bytes, pixels or sides."""

    code = "image_too_large"


class CorruptImageError(MediaError):
    """The image can't be decoded to the end."""

    code = "corrupt_image"


class AmbiguousPixelsError(MediaError):
    """The pixels have no single meaning as 8-bit RGB."""

    code = "ambiguous_pixels"


class EngineError(AppError):
    """A model server can't do its work."""

    code = "engine"


class EngineStartError(EngineError):
    """The server did not start; ``message`` is the reason, ``detail`` the end of its log."""

    code = "engine_start"


class EngineNotReadyError(EngineError):
    """The server is not (yet) able to answer."""

    code = "engine_not_ready"


class EngineDiedError(EngineError):
    """The server ended while it was working for us."""

    code = "engine_died"


class PreparationError(EngineError):
    """A model folder can't be made servable."""

    code = "preparation"


class StreamError(AppError):
    """An answer's stream went wrong."""

    code = "stream"


class StreamTruncatedError(StreamError):
    """The stream ended without a finish reason."""

    code = "stream_truncated"


class StreamStalledError(StreamError):
    """No token came for too long."""

    code = "stream_stalled"


class EngineFailureError(StreamError):
    """The server reported a failure of its own."""

    code = "engine_failure"


class RequestRefusedError(StreamError):
    """The server refused the request: the user can mend it."""

    code = "request_refused"


class MalformedStreamError(StreamError):
    """The stream was not what the protocol says."""

    code = "malformed_stream"


class JobError(AppError):
    """A job can't do its work; ``message`` becomes its reason."""

    code = "job"


class JobCancelledError(JobError):
    """A person asked for the job's end."""

    code = "job_cancelled"


class JobStateError(JobError):
    """The job's state does not allow that, for instance because it has ended meanwhile."""

    code = "job_state"


class ClusterError(JobError):
    """The cluster can't be asked now; what runs on it goes on."""

    code = "cluster"


class StorageError(AppError):
    """Records can't be read or written."""

    code = "storage"


class RecordNotFoundError(StorageError):
    """There is no such record."""

    code = "record_not_found"


class DatabaseBusyError(StorageError):
    """Another program holds the database."""

    code = "database_busy"


class DiskFullError(StorageError):
    """There is no space left."""

    code = "disk_full"


class SchemaTooNewError(StorageError):
    """A newer Diptych wrote this database."""

    code = "schema_too_new"


class DatabaseCorruptError(StorageError):
    """The database is damaged. Diptych never deletes or repairs it by itself."""

    code = "database_corrupt"


class BlobDamagedError(StorageError):
    """A stored file is missing, or its content is not what its name says."""

    code = "blob_damaged"


class StateInUseError(StorageError):
    """Another Diptych works in this state directory."""

    code = "state_in_use"


class AccessError(AppError):
    """The caller may not do that."""

    code = "access"


class NotPermittedError(AccessError):
    """Sign-in is needed for this."""

    code = "not_permitted"


class VisitorLimitError(AccessError):
    """A visitor of a public page has taken what one visitor may take."""

    code = "visitor_limit"


class SignInError(AccessError):
    """Signing in elsewhere did not work out; nobody is signed in by it."""

    code = "sign_in"
