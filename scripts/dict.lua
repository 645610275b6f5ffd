-- A dict that several processes fill at once.
-- Notice: Manager():dict() is used like a table, from every process, and needs
-- no server process. d:incr is atomic: no two processes count the same number.
local mp = require "mpengine"

local manager = mp.Manager()
local d = manager:dict()

local function fill(n)
  d[n] = { square = n * n, by = mp.current_process().name }
  d:incr("filled")
end

local processes = {}
for n = 1, 10 do
  processes[n] = mp.Process{ target = fill, args = { n }, name = "filler-" .. n }
  processes[n]:start()
end
for _, p in ipairs(processes) do p:join() end

for n = 1, 10 do
  print(("%2d -> %3d, written by %s"):format(n, d[n].square, d[n].by))
end
print("filled by " .. d.filled .. " processes, " .. #d .. " keys")
