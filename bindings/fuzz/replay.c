/* SPDX-License-Identifier: MIT */
/*
** replay.c - the inputs in a folder, given to the fuzz target once each, without a fuzzer.
*/
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#define MOST_BYTES 65536

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static int
replay(const char *folder, const char *name)
{
    char path[1024];
    /* From malloc and just as long, so that a memory checker sees what reads behind it. */
    uint8_t *data = malloc(MOST_BYTES), *exact;
    size_t n;
    FILE *file;

    snprintf(path, sizeof path, "%s/%s", folder, name);
    file = fopen(path, "rb");
    if (data == NULL || file == NULL)
        return 0;
    n = fread(data, 1, MOST_BYTES, file);
    fclose(file);
    exact = realloc(data, n > 0 ? n : 1);
    if (exact == NULL)
        return 0;
    LLVMFuzzerTestOneInput(exact, n);
    free(exact);
    return 1;
}

int
main(int argc, char **argv)
{
    DIR *folder = argc > 1 ? opendir(argv[1]) : NULL;
    const struct dirent *entry;
    int n = 0;

    while (folder != NULL && (entry = readdir(folder)) != NULL)
        if (entry->d_name[0] != '.')
            n += replay(argv[1], entry->d_name);
    if (folder != NULL)
        closedir(folder);
    printf("%d inputs\n", n);
    return n > 0 ? 0 : 1;
}
