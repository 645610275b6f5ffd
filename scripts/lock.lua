-- Ten processes change a shared array and print it, one after the other.
-- Notice: the lock makes 'add one to each and print the three' one step, so
-- each block of three lines is whole and the last one is 11 12 13. Take the
-- guard away and the blocks mix.
local mp = require "mpengine"

local array = mp.Array("i", { 1, 2, 3 })
local lock = mp.RLock()

local function add_and_print()
  local _ <close> = lock:guard()
  for i = 1, #array do
    array[i] = array[i] + 1
  end
  for _, v in ipairs(array) do
    print(v)
  end
end

local processes = {}
for i = 1, 10 do
  processes[i] = mp.Process{ target = add_and_print }
  processes[i]:start()
end
for _, p in ipairs(processes) do
  p:join()
end
