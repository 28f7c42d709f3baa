"""The environment variables that the framework reads and sets, all of them."""

REQUEUED = "FRAMEWORK_REQUEUED"  # 1: this job was started again, so the run resumes by itself with the config it had
REQUEUE_FILE = "FRAMEWORK_REQUEUE_FILE"  # a file that the job script looks for after Python: if it exists, it requeues
JOB_SCRIPT = "FRAMEWORK_JOB_SCRIPT"  # path of the job script, which PBS and LSF do not tell; set by the script itself
SHOW_TRACEBACK = "FRAMEWORK_TRACEBACK"  # 1: print the traceback of an error that is otherwise one line
