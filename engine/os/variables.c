/* The environment variables that the library reads, in one place: the accepted values of each,
 * and the message about other values. An empty variable counts as unset. */
#include "os/os.h"

#include "mpengine_core.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CHOICES_MAX 3
#define SHOWN 40 /* bytes of a wrong value in its message */

static int read_size(const char *text, uint64_t *value);
static int read_arena(const char *text, uint64_t *value);

static const struct {
    const char *name, *expected;
    int (*read)(const char *text, uint64_t *value); /* NULL: any text, or one of the choices */
    const char *choices[CHOICES_MAX];
} variables[MPE_VARIABLES] = {
    [MPE_VARIABLE_SHM_LIMIT] = {"MPENGINE_SHM_LIMIT",
                                "bytes, 1M or more, such as 512M or 2G",
                                read_size,
                                {0}},
    [MPE_VARIABLE_DEADLOCK] = {"MPENGINE_DEADLOCK", "'report' or 'off'", NULL, {"report", "off"}},
    [MPE_VARIABLE_START_METHOD] = {"MPENGINE_START_METHOD",
                                   "'fork', 'spawn' or 'forkserver'",
                                   NULL,
                                   {"fork", "spawn", "forkserver"}},
    [MPE_VARIABLE_EXECUTABLE] = {"MPENGINE_EXECUTABLE", "the path of a program", NULL, {0}},
    [MPE_VARIABLE_ARENA] = {"MPENGINE_ARENA", "a name of up to 255 bytes", read_arena, {0}},
};

static int
read_size(const char *text, uint64_t *value)
{
    static const char units[] = "KMGT";
    char *end;
    if (*text < '0' || *text > '9')
        return MPE_EVARIABLE;
    errno = 0;
    uint64_t n = strtoull(text, &end, 10);
    const char *unit = *end ? strchr(units, *end & ~0x20) : NULL;
    if (errno != 0 || (*end && (!unit || end[1])))
        return MPE_EVARIABLE;
    uint32_t shift = unit ? 10 * (uint32_t)(unit - units + 1) : 0;
    if (n > UINT64_MAX >> shift || n << shift < 1u << 20)
        return MPE_EVARIABLE;
    *value = n << shift;
    return MPE_OK;
}

static int
read_arena(const char *text, uint64_t *value)
{
    (void)value;
    return strlen(text) <= 255 ? MPE_OK : MPE_EVARIABLE;
}

static int
read_choice(enum mpe_variable which, const char *text, uint64_t *value)
{
    const char *const *choices = variables[which].choices;
    for (uint64_t i = 0; i < CHOICES_MAX && choices[i]; i++) {
        if (strcmp(choices[i], text) != 0)
            continue;
        *value = i;
        return MPE_OK;
    }
    return choices[0] ? MPE_EVARIABLE : MPE_OK;
}

int
mpe_variable_get(enum mpe_variable which, uint64_t *value, const char **text)
{
    *text = getenv(variables[which].name);
    *value = 0;
    if (!*text || !**text)
        return MPE_ENOENT;
    return variables[which].read ? variables[which].read(*text, value)
                                 : read_choice(which, *text, value);
}

int
mpe_variables_check(char *message, size_t size)
{
    uint64_t value;
    const char *text;
    for (enum mpe_variable v = 0; v < MPE_VARIABLES; v++) {
        if (mpe_variable_get(v, &value, &text) != MPE_EVARIABLE)
            continue;
        snprintf(message, size, "%s: '%.*s' is not accepted (%s expected)", variables[v].name,
                 SHOWN, text, variables[v].expected);
        return MPE_EVARIABLE;
    }
    return MPE_OK;
}
