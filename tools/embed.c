/* SPDX-License-Identifier: MIT
 *
 * embed.c - compiles Lua modules, debug information kept, and writes them as the C source that
 * bindings/base/lmodules.c looks into: `embed ROOT FILE...`, each FILE under ROOT. Linked with the Lua that
 * is built against, since only that one's bytecode will do. Annotations, the file
 * library/NAME.lua, become the module NAME.library, which returns their text.
 */
#include <lauxlib.h>
#include <lua.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NAME_MAX_BYTES 47 /* of a module: lmodules.h */

#define LIBRARY "library/" /* the directory of annotations */

static size_t written; /* bytes of code, of all modules so far */

static void
fail(const char *what)
{
    fprintf(stderr, "embed: %s\n", what);
    exit(EXIT_FAILURE);
}

static int
write_bytes(lua_State *L, const void *bytes, size_t size, void *ud)
{
    const unsigned char *p = bytes;
    (void)L, (void)ud;
    for (size_t i = 0; i < size; i++)
        printf((written + i) % 24 == 23 ? "%u,\n" : "%u,", p[i]);
    written += size;
    return 0;
}

static int
is_annotations(const char *file)
{
    return strncmp(file, LIBRARY, strlen(LIBRARY)) == 0;
}

/* Writes the code of a module; its chunk is named after its place in the library. */
static void
write_code(lua_State *L, const char *root, const char *file)
{
    lua_pushfstring(L, "%s/%s", root, file);
    FILE *f = fopen(lua_tostring(L, -1), "rb");
    if (!f)
        fail(lua_tostring(L, -1));
    luaL_Buffer b;
    luaL_buffinit(L, &b);
    size_t n;
    do {
        n = fread(luaL_prepbuffer(&b), 1, LUAL_BUFFERSIZE, f);
        luaL_addsize(&b, n);
    } while (n > 0);
    fclose(f);
    luaL_pushresult(&b);
    if (is_annotations(file))
        lua_pushfstring(L, "return [==[\n%s]==]", lua_tostring(L, -1));
    size_t size;
    const char *text = lua_tolstring(L, -1, &size);
    const char *chunk = lua_pushfstring(L, "=%s", file);
    if (luaL_loadbufferx(L, text, size, chunk, "t") != LUA_OK)
        fail(lua_tostring(L, -1));
    lua_dump(L, write_bytes, NULL, 0);
    lua_settop(L, 0);
}

/* "a/b.lua" and "a/b/init.lua" are the module a.b; the annotations "library/a.lua" are a.library. */
static void
write_entry(const char *file, size_t from, size_t to)
{
    char name[NAME_MAX_BYTES + 1];
    size_t n = strlen(file);
    if (is_annotations(file)) {
        printf("{\"%.*s.library\", %zu, %zu},\n", (int)(n - strlen(LIBRARY) - 4),
               file + strlen(LIBRARY), from, to - from);
        return;
    }
    n -= n > 9 && strcmp(file + n - 9, "/init.lua") == 0 ? 9 : 4;
    if (n > NAME_MAX_BYTES)
        fail(file);
    for (size_t i = 0; i < n; i++)
        name[i] = file[i] == '/' ? '.' : file[i];
    printf("{\"%.*s\", %zu, %zu},\n", (int)n, name, from, to - from);
}

int
main(int argc, char **argv)
{
    lua_State *L = luaL_newstate();
    size_t *from = calloc((size_t)argc + 1, sizeof *from);
    if (argc < 2 || !L || !from)
        fail("usage: embed ROOT FILE...");
    printf("/* Made by tools/embed.c. */\n#include \"base/lmodules.h\"\n\n"
           "const unsigned char lmpe_modules_code[] = {\n");
    for (int i = 2; i < argc; i++) {
        from[i] = written;
        write_code(L, argv[1], argv[i]);
    }
    from[argc] = written;
    printf("};\n\nconst struct lmpe_embedded lmpe_modules[] = {\n");
    for (int i = 2; i < argc; i++)
        write_entry(argv[i], from[i], from[i + 1]);
    printf("{\"\", 0, 0},\n};\n");
    free(from);
    lua_close(L);
    return ferror(stdout) || fflush(stdout) != 0;
}
