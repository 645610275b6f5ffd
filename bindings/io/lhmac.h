/* SPDX-License-Identifier: MIT
 *
 * lhmac.h - the signatures of messages, with a key that is prepared once.
 */
#ifndef LMPE_LHMAC_H
#define LMPE_LHMAC_H

#include "base/lmpe.h"

#define LMPE_DIGEST_SIZE 32

typedef struct lmpe_mac lmpe_mac;

/* The key of the userdata at idx, of core.mac_key; NULL for nil. Raises for another value. */
lmpe_mac *lmpe_opt_mac(lua_State *L, int idx);
/* HMAC-SHA256 of the parts, one after the other. Raises when libcrypto fails. */
void lmpe_mac_sign(lua_State *L, lmpe_mac *mac, const mpe_bytes *parts, int count,
                   unsigned char digest[LMPE_DIGEST_SIZE]);
/* Whether they are equal; the time does not tell where they differ. */
int lmpe_mac_same(const void *a, const void *b);

#endif
