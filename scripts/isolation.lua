-- A plain list is not shared.
-- Notice: every process appends to its own copy, so every list that is printed has one element, and
-- the list of the main script stays empty. Use mp.Array, mp.Dict, mp.List or mp.Queue for shared
-- data.
local mp = require "mpengine"

local list = {}

local function append(n)
  list[#list + 1] = n
  print(("process %d: %d element, { %s }"):format(n, #list, table.concat(list, ", ")))
end

local processes = {}
for n = 1, 10 do
  processes[n] = mp.Process(append, n)
  processes[n]:start()
end
for _, p in ipairs(processes) do
  p:join()
end

print(("main script: %d elements"):format(#list))
