-- Programs on many machines, with one Redis between them. In one terminal, or in several, on any machine:
--   mpengine worker --allow 'string.*' redis://127.0.0.1:6379
-- In another one:
--   mpengine scripts/remote.lua redis://127.0.0.1:6379
-- Notice: functions go by their names; the dict and the lock are the same in all programs; a worker may be
-- killed at any time, and the tasks that may be repeated run elsewhere.
local mp = require "mpengine"

local m <close> = mp.Manager(arg[1] or os.getenv "MPENGINE_URL" or "redis://127.0.0.1:6379")
local pool <close> = m:Pool{ retries = 2 }
print("processes that work for us:", pool:stats().processes)

print("one call:", pool:apply("string.rep", { "ha", 3 }))
print("a map:   ", table.concat(pool:map(string.upper, { "one", "two", "three" }), " "))
for i, v in pool:imap(string.reverse, { "abc", "def" }) do print("as they come:", i, v) end

local ok, err = pcall(pool.apply, pool, "string.rep", { "x", -1, {} })
print("an error:", ok, err.kind)
print("refused: ", (select(2, pcall(pool.apply, pool, function() return m end)):match "functions go.*"))

local runs, lock = m:dict "runs", m:Lock "runs"
do
  local _ <close> = lock:guard()
  runs.count = (runs.count or 0) + 1
end
print("this script has run before:", runs.count > 1)
