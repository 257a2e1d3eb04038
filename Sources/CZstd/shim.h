// libzstd's streaming interface, as a Swift module.
#include <zstd.h>
