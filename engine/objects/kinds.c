/* The table of the kinds of shared objects, by number: what MPE_KIND_MAP in the public header says.
 * What a kind does is in the file of its own name; see core/kind.h. */
#include "core/object.h"

#define DECLARE(name, number, text, moves) extern const struct mpe__kind mpe__##moves##_kind;
MPE_KIND_MAP(DECLARE)

static const struct mpe__kind none; /* of handle 0 */

#define ENTRY(name, number, text, moves) [number] = &mpe__##moves##_kind,
const struct mpe__kind *const mpe__kinds[MPE_KIND_COUNT] = {[MPE_KIND_NONE] = &none,
                                                            MPE_KIND_MAP(ENTRY)};

const char *
mpe_kind_name(int kind)
{
#define TEXT(name, number, text, moves) [number] = (text),
    static const char *const names[MPE_KIND_COUNT] = {MPE_KIND_MAP(TEXT)};
    return kind > MPE_KIND_NONE && kind < MPE_KIND_COUNT ? names[kind] : NULL;
}
