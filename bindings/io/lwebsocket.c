#include "io/lhttpd.h"
const lmpe_module lmpe_websocket_module = {.open = NULL};
