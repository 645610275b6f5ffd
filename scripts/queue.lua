-- Two producers and three consumers on a queue with room for four items.
-- Notice: a producer waits while the queue is full and a consumer while it is empty, without
-- polling. Closing the queue ends the consumers' loops once it is drained, and every item arrives
-- exactly once.
local mp = require "mpengine"

local queue = mp.Queue(4)
local results = mp.Queue()

local function produce(name, first, last)
  for n = first, last do
    queue:put{ from = name, number = n }
  end
  print(("%s: put %d to %d"):format(name, first, last))
end

local function consume(name)
  local count, sum = 0, 0
  for item in queue:iter() do
    count, sum = count + 1, sum + item.number
  end
  print(("%s: the queue is closed"):format(name))
  results:put{ count = count, sum = sum }
end

local producers, consumers = {}, {}
for i = 1, 3 do
  consumers[i] = mp.Process{ target = consume, args = { "consumer-" .. i } }
  consumers[i]:start()
end
for i = 1, 2 do
  local args = { "producer-" .. i, (i - 1) * 50 + 1, i * 50 }
  producers[i] = mp.Process{ target = produce, args = args }
  producers[i]:start()
end

for _, p in ipairs(producers) do p:join() end
queue:close()
for _, p in ipairs(consumers) do p:join() end

local count, sum = 0, 0
for _ = 1, #consumers do
  local r = results:get()
  count, sum = count + r.count, sum + r.sum
end
print(("%d items, sum %d"):format(count, sum))
