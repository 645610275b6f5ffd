-- A producer that is faster than its consumers: the bounded queue makes it wait.
-- Notice: never more than three items are between them, and closing the queue ends the consumers.
local mp = require "mpengine"
local co = mp.co

local q = co.Queue(3)
local most, made = 0, 0

local producer = co.spawn(function()
  for i = 1, 20 do
    q:put(i) -- waits while the queue is full
    made = i
    most = math.max(most, q:qsize())
  end
  q:close()
end)

local consumers, sums = {}, { 0, 0 }
for c = 1, 2 do
  consumers[c] = co.spawn(function()
    for item in q:iter() do
      co.sleep(0.001) -- slower than the producer
      sums[c] = sums[c] + item
    end
  end)
end

co.sleep(0)
print(made < 20 and "the producer waits for room" or "the producer ran ahead")
producer:join()
co.joinall(consumers)
print(("20 items, sum %d, at most %d in the queue"):format(sums[1] + sums[2], most))
