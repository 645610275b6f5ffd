-- A program that leaks: a queue that is filled and never read, and objects that are kept for ever.
-- Notice: the place where objects were made leads to the line. `mpengine dump` in another terminal shows
-- it while `leak.lua wait` runs; here mp.dump() does.
local mp = require "mpengine"

local log = mp.Queue{ name = "log" }
local sessions = {}

local function handle(i)
  sessions[i] = mp.Dict({ user = i })
  log:put("request " .. i)
end

for i = 1, 300 do handle(i) end
print(#sessions .. " sessions")
if arg and arg[1] == "wait" then mp.sleep(1000) end

for line in mp.dump():gmatch("[^\n]+") do
  if line:find "^!" or line:find "made at .*items in all" then
    print((line:gsub("0x%x+", "0xN"):gsub("/[^%s:]*/", "")))
  end
end
