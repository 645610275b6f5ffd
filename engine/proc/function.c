/* SPDX-License-Identifier: MIT */
/* Processes that run a C function by its name. A forked child calls it at once. A new program
 * reads the name and the arguments from the messages of its start, and finds the function in its own
 * table: the address may be another there.
 *
 * A child that is killed before it has read them leaves its slot, whose reaper drops the queue
 * with the messages.
 */
#include "proc/function.h"
#include "core/door.h"
#include "os/os.h"

#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "mpengine_wire.h"

#define EXIT_UNKNOWN 127 /* no such function there, as a shell says of a command */

mpe_function
mpe__function_find(const mpe_engine *e, const char *name)
{
    const mpe_named_function *f = e->proc->functions;
    for (; f && f->name; f++)
        if (strcmp(f->name, name) == 0)
            return f->call;
    return NULL;
}

static int
found_one(void *found, uint64_t handle)
{
    (void)handle;
    *(int *)found = 1;
    return 0;
}

int
mpe__names_objects(const void *data, size_t size)
{
    int found = 0;
    return mpe_wire_scan_handles(data, size, found_one, &found) == MPE_OK && found;
}

/* ---- in the child ---- */

/* Runs it, and returns the exit code. */
static int
run_role(mpe_engine *e, enum mpe__role role, const char *name, const void *args, size_t size)
{
    if (role == MPE__ROLE_WORKER)
        return mpe__worker_run(e, args, size);
    mpe_function call = mpe__function_find(e, name);
    if (!call)
        return EXIT_UNKNOWN;
    mpe_buf result;
    mpe__buf_init(&result, &e->memory);
    int code = call(e, args, size, &result);
    mpe_buf_free(&result);
    return code & 255;
}

/* The messages of the start: role and name, arguments. */
static int
run_messages(mpe_engine *e)
{
    mpe_message role, args;
    char name[256];
    if (mpe_next_message(e, &role) != MPE_OK)
        return EXIT_UNKNOWN;
    if (role.size < 2 || role.size > sizeof name || mpe_next_message(e, &args) != MPE_OK) {
        mpe_message_free(e, &role);
        return EXIT_UNKNOWN;
    }
    memcpy(name, role.data + 1, role.size - 1);
    int code = run_role(e, (enum mpe__role)role.data[0], name, args.data, args.size);
    mpe_message_free(e, &args);
    mpe_message_free(e, &role);
    return code;
}

int
mpe_child_main(const mpe_config *config, int *exit_code)
{
    mpe_engine *e;
    if (!exit_code)
        return 0;
    int rc = mpe_attach(config, &e);
    if (rc == MPE_ENOENT)
        return 0;
    *exit_code = EXIT_UNKNOWN;
    if (rc != MPE_OK)
        return 1; /* the starter is gone, or has another library */
    if (mpe_is_server(e) && (rc = mpe_serve(e)) != MPE_OK) {
        *exit_code = rc == MPE_ECLOSED ? 0 : EXIT_UNKNOWN;
        mpe_close(e);
        return 1;
    }
    *exit_code = run_messages(e);
    mpe_report_exit(e, *exit_code);
    mpe_close(e);
    return 1;
}

/* ---- in the starter ---- */

static int
fork_role(mpe_engine *e, enum mpe__role role, const char *name, mpe_bytes args, unsigned flags,
          mpe_process **out)
{
    int is_child = 0;
    fflush(stdout); /* or both would print what is in the buffer */
    mpe_bytes message = {args.data, mpe__names_objects(args.data, args.size) ? args.size : 0};
    int rc = mpe_process_fork(e, name, flags, message, out, &is_child);
    if (!is_child)
        return rc;
    int code = rc == MPE_OK ? run_role(e, role, name, args.data, args.size) : EXIT_UNKNOWN;
    fflush(stdout);
    mpe_leave(e);
    _exit(code);
}

static int
start_program(mpe_engine *e, int method, enum mpe__role role, const char *name, mpe_bytes args,
              unsigned flags, mpe_process **out)
{
    char text[256], path[PATH_MAX];
    mpe_start s = MPE_START_INIT;
    size_t length = strlen(name);
    text[0] = (char)role;
    memcpy(text + 1, name, length + 1);
    const mpe_bytes messages[] = {{text, length + 2}, args};
    const char *argv[] = {name, NULL};
    s.name = name;
    s.flags = flags;
    s.messages = messages;
    s.count = 2;
    s.executable = mpe_own_program(path, sizeof path);
    s.argv = argv;
    if (!s.executable)
        return MPE_ESYS;
    return method == MPE_SPAWN ? mpe_process_spawn(e, &s, out) : mpe_process_request(e, &s, out);
}

int
mpe__start_role(mpe_engine *e, int method, enum mpe__role role, const char *name, mpe_bytes args,
                unsigned flags, mpe_process **out)
{
    if (method == MPE_FORK)
        return fork_role(e, role, name, args, flags, out);
    return start_program(e, method, role, name, args, flags, out);
}

int
mpe_start_function(mpe_engine *e, int method, const char *function, const void *args, size_t size,
                   unsigned flags, mpe_process **out)
{
    mpe_bytes bytes = {args, size};
    if (!e || !function || !out || mpe__lacks(bytes))
        return MPE_EINVAL;
    if (!mpe__is_ours(e))
        return mpe__refusal(e, NULL, 0);
    if (method < MPE_FORK || method > MPE_FORKSERVER || (flags & ~MPE__LINED))
        return MPE_EINVAL;
    if (strlen(function) > 253 || !mpe__function_find(e, function))
        return MPE_ENOENT;
    return mpe__start_role(e, method, MPE__ROLE_FUNCTION, function, bytes, flags, out);
}
