--- The scripts of pools. The tasks of a client are in a hash, by their names; the ready ones are in three
--- lists by priority, the delayed ones in a sorted set. A worker claims as many as it has room for, and those
--- that it has of a queue are in a hash, until it says how they ended: that moves the results to the stream of
--- the client, in the same step. A worker with room that found no task is in the sorted set of idle ones, by
--- its room, and tasks that come are given to those at once. What is done for many tasks is one command for all.
--- The room of a worker of several queues is that of all: its score has a fraction, and the hash `shared` its
--- capacity and its other queues.
---
--- What a worker was given in a reply that it never got stays in its hash: it asks for what it does not know
--- (RESUME) after its connection was lost, and when the hash has more tasks than it has. Each queue has the list
--- of its workers, and those that are alive, and submitters that hear nothing, look there for dead ones. A worker is
--- given tasks only while it is in that list.
---
--- A task is named "client number". What is known of its runs goes with this id, as a tail: how often its worker died,
--- how often that may be, the same for errors, and its priority. Lists have ids and tails in turn.
local client = require "mpengine.remote.client"

local tasks = {}

tasks.MOST = 256 -- tasks of a script, and of one command in it

-- Scripts are made of parts, as each function that a part defines costs a call some time.
--
-- ARGV: queue, client, lease
local HEAD <const> = [[
local queue, me, lease = ARGV[1], ARGV[2], tonumber(ARGV[3])
local at = now()
local MOST = 256
local IDLE, LATER = P .. 'idle:' .. queue, P .. 'later:' .. queue
local DEAD, WORKERS = P .. 'dead:' .. queue, P .. 'workers:' .. queue
local function runs(worker) return P .. 'runs:' .. queue .. ':' .. worker end
local function ready(priority) return P .. 'ready:' .. queue .. ':' .. priority end
local function tasks_of(owner) return P .. 'tasks:' .. owner end
local function owner_of(id) return id:match('^%S+') end
local function payload(id) return call('HGET', tasks_of(owner_of(id)), id) end
-- What happens in a queue is counted: submitted, done, failed, crashed (a process or a worker died).
local function count(kind, n) call('HINCRBY', P .. 'counts', queue .. ' ' .. kind, n) end
]]

local GIVE <const> = [[
local function is_alive(client)
    local till = tonumber(call('ZSCORE', P .. 'live', client) or 0)
    return till > at or till > 0 and deadline(client) > at
end
-- Adds the payloads of tasks to those that are known.
local function add_payloads(entries, bytes)
    local by_owner, prefix, list = {}, '', nil
    for i = 1, #entries, 2 do
        local id = entries[i]
        if not list or id:sub(1, #prefix) ~= prefix then
            local owner = owner_of(id)
            prefix, list = owner .. ' ', by_owner[owner] or {}
            by_owner[owner] = list
        end
        if not bytes[id] then list[#list + 1] = id end
    end
    for owner, ids in pairs(by_owner) do
        local got = ids[1] and call('HMGET', tasks_of(owner), unpack(ids)) or {}
        for i, id in ipairs(ids) do bytes[id] = got[i] end
    end
end
-- Gives tasks to a worker, no more than MOST: {id, payload, ...}. `bytes` has payloads that are known. Those without
-- one were cancelled, and leave the list.
local function claim(worker, entries, bytes)
    add_payloads(entries, bytes)
    local out, n = {}, 0
    for i = 1, #entries, 2 do
        local id = entries[i]
        if bytes[id] then
            out[n + 1], out[n + 2] = id, bytes[id]
            entries[n + 1], entries[n + 2] = id, entries[i + 1]
            n = n + 2
        end
    end
    if n > 0 then call('HSET', runs(worker), unpack(entries, 1, n)) end
    return out
end
-- The room of a worker of several queues, whose tasks share it. It is told to ask when it has none for this queue.
local function shared_room(worker, room)
    local capacity, others = call('HGET', P .. 'shared', queue .. ' ' .. worker):match('^(%d+) (.*)$')
    local has = call('HLEN', runs(worker))
    for name in others:gmatch('%S+') do has = has + call('HLEN', P .. 'runs:' .. name .. ':' .. worker) end
    room = math.max(0, math.min(room, capacity - has))
    if room == 0 then mail(worker, 'w', 'look:' .. queue, '', '') end
    return room
end
-- Gives tasks to idle workers, which share them, those with the most room first. Returns which is the first
-- that is left.
local function offer(entries, bytes)
    local first, count = 1, #entries / 2
    while first <= count do
        local idle = call('ZRANGE', IDLE, 0, math.min(count - first, MOST), 'REV', 'WITHSCORES')
        if not idle[1] then break end
        for i = 1, #idle, 2 do
            local worker, score = idle[i], tonumber(idle[i + 1])
            local room = math.floor(score)
            if room < score then room = shared_room(worker, room) end
            local share = math.min(room, math.ceil((count - first + 1) / ((#idle - i + 1) / 2)), MOST)
            if not is_alive(worker) then
                room = 0
            elseif share > 0 then
                local given = claim(worker, {unpack(entries, 2 * first - 1, 2 * (first + share - 1))}, bytes)
                first = first + share
                room = room - #given / 2
                if given[1] then call('XADD', P .. 'mail:' .. worker, '*', 'w', 'task:' .. queue, unpack(given)) end
            end
            if room > 0 then call('ZADD', IDLE, room + score % 1, worker) else call('ZREM', IDLE, worker) end
        end
    end
    return first
end
-- Tasks are ready: idle workers get them, else they are at the end of their lists.
local function put(entries, bytes)
    local lists = {}
    for i = 2 * offer(entries, bytes or {}), #entries, 2 do
        local priority = entries[i]:sub(-1)
        local list = lists[priority] or {}
        lists[priority] = list
        list[#list + 1], list[#list + 2] = entries[i - 1], entries[i]
    end
    for priority, list in pairs(lists) do
        for i = 1, #list, 2 * MOST do
            call('RPUSH', ready(priority), unpack(list, i, math.min(#list, i + 2 * MOST - 1)))
        end
    end
end
-- The same for tasks that have begun before: they are at the beginning.
local function put_again(entries)
    for i = #entries, 2 * offer(entries, {}), -2 do
        call('LPUSH', ready(entries[i]:sub(-1)), entries[i], entries[i - 1])
    end
end
]]

local ENDS <const> = GIVE .. [[
-- Results are gathered, and go with one entry of a stream for each client.
local results = {}
local function send_results(owner, bytes)
    local post = results[owner] or {}
    results[owner] = post
    post[#post + 1] = bytes
end
local function send_all()
    for owner, post in pairs(results) do mail(owner, 'w', 'result', 'bytes', table.concat(post)) end
end
-- The functions for ends that are not results, as they are seldom needed.
local function others()
    local function parts(tail) return tail:match('^(%d+) (%d+) (%d+) (%d+) (%d)$') end
    -- A task has ended: the results are bytes for the client.
    local function finish(id, bytes)
        local owner = owner_of(id)
        if call('HDEL', tasks_of(owner), id) == 1 then send_results(owner, bytes) end
    end
    local function bury(id, why)
        local bytes = payload(id)
        if not bytes then return end
        call('LPUSH', DEAD, cmsgpack.pack({id = id, at = at, why = why, bytes = bytes}))
        call('LTRIM', DEAD, 0, 9999)
    end
    -- The process of the task died, or its worker (no bytes): it runs again, or has failed.
    local function crashed(id, tail, bytes)
        local crashes, retries, errors, more, priority = parts(tail)
        crashes = tonumber(crashes) + 1
        count('crashed', 1)
        if crashes <= tonumber(retries) then
            return put_again({id, table.concat({crashes, retries, errors, more, priority}, ' ')})
        end
        bury(id, bytes and 'v' or 'd')
        if bytes then return finish(id, bytes) end
        local owner = owner_of(id)
        if call('HDEL', tasks_of(owner), id) == 1 then mail(owner, 'w', 'died', 'id', id) end
    end
    local function failed(id, tail, bytes)
        local crashes, retries, errors, more, priority = parts(tail)
        errors = tonumber(errors) + 1
        if errors <= tonumber(more) then
            local pause = math.min(300000, 1000 * 2 ^ (errors - 1)) * (0.5 + (at % 1000) / 1000)
            call('ZADD', LATER, at + pause, table.concat({id, crashes, retries, errors, more, priority}, ' '))
            return
        end
        count('failed', 1)
        finish(id, bytes)
    end
    return crashed, failed, finish
end
local function reap()
    local last = tonumber(call('HGET', P .. 'looked', queue) or 0)
    if at - last < lease / 3 then return end
    call('HSET', P .. 'looked', queue, at)
    for _, gone in ipairs(call('HKEYS', WORKERS)) do
        if deadline(gone) <= at then
            local crashed, left = others(), call('HGETALL', runs(gone))
            call('DEL', runs(gone))
            call('HDEL', WORKERS, gone)
            call('ZREM', IDLE, gone) -- if it was only stopped, it asks again
            call('HDEL', P .. 'shared', queue .. ' ' .. gone)
            for i = 1, #left, 2 do crashed(left[i], left[i + 1]) end
        end
    end
end
]]

-- ARGV: number of the step, numbers of steps that are over; 1: some of the tasks may be known; then tasks in groups:
-- tail, delay in ms, how many, and id and payload of each.
tasks.SUBMIT = client.script(HEAD .. GIVE .. [[
beat(me, lease, at)
forget(me, ARGV[5])
if not note_done(me, ARGV[4]) then return 1 end
local i = 7
while ARGV[i] do
    local tail, delay, ids = ARGV[i], tonumber(ARGV[i + 1]), {}
    local first, last = i + 3, i + 2 + 2 * ARGV[i + 2]
    for j = first, last, 2 do ids[#ids + 1] = ARGV[j] end
    local known = ARGV[6] == '1' and call('HMGET', tasks_of(me), unpack(ids)) or {}
    local entries, fields, bytes, n = {}, ARGV, {}, 0
    for j, id in ipairs(ids) do
        if not known[j] then
            bytes[id] = ARGV[first + 2 * j - 1]
            entries[n + 1], entries[n + 2] = id, tail
            n = n + 2
        end
    end
    if n < 2 * #ids then
        fields, first = {}, 1
        for j = 1, n, 2 do fields[j], fields[j + 1] = entries[j], bytes[entries[j] ] end
    end
    if n > 0 then
        call('HSET', tasks_of(me), unpack(fields, first, first + n - 1))
        count('submitted', n / 2)
    end
    if delay > 0 then
        for _, id in ipairs(ids) do
            if bytes[id] then call('ZADD', LATER, at + delay, id .. ' ' .. tail) end
        end
        local idle = call('ZRANGE', IDLE, 0, 0, 'REV')[1]
        if idle then mail(idle, 'w', 'look:' .. queue, '', '') end
    else
        put(entries, bytes)
    end
    i = last + 1
end
return 1
]])

-- ARGV: how many tasks the worker may have, and its other queues, whose tasks count too; its number of processes and
-- its host; 1: it is time to look for dead workers; then what has ended: v, client, how many, their results, their ids;
-- or a kind, id, result. Kinds: e an error of the function, f another one, x its process died, b it is to be given
-- back, c it was cancelled. {ms until a delayed task, how many it has, id, payload, …}. It may have -1: no more, it
-- ends what it has; -2: it goes, and has none.
tasks.WORK = client.script(HEAD .. ENDS .. [[
-- Results of a client's tasks. The first one of a task counts, also that of a worker from which it was taken;
-- a submitter drops those of tasks that have ended.
local function done(owner, bytes, ids)
    call('HDEL', runs(me), unpack(ids))
    local n = call('HDEL', tasks_of(owner), unpack(ids))
    if n == 0 then return end
    count('done', n)
    send_results(owner, bytes)
end
local function other(kind, id, bytes)
    local crashed, failed, finish = others()
    local tail = call('HGET', runs(me), id)
    if not tail then return end
    call('HDEL', runs(me), id)
    if kind == 'e' then
        failed(id, tail, bytes)
    elseif kind == 'x' then
        crashed(id, tail, bytes)
    elseif kind == 'b' then
        put_again({id, tail})
    elseif kind == 'f' then
        count('failed', 1)
        finish(id, bytes)
    end
end
-- When the first delayed task is due; those that are get ready.
local function promote()
    local first = call('ZRANGE', LATER, 0, 0, 'WITHSCORES')
    while first[2] and tonumber(first[2]) <= at do
        local due = call('ZRANGEBYSCORE', LATER, '-inf', at, 'LIMIT', 0, MOST)
        call('ZREM', LATER, unpack(due))
        local entries = {}
        for i, entry in ipairs(due) do entries[2 * i - 1], entries[2 * i] = entry:match('^(%S+ %d+) (.*)$') end
        put(entries)
        first = call('ZRANGE', LATER, 0, 0, 'WITHSCORES')
    end
    return first[2] and math.max(1, math.ceil(first[2] - at)) or -1
end
-- Adds to a list what the worker gets, for as much room as it has, but about SIZE bytes, and returns how many tasks it
-- then has. What it was given by messages that it has not read yet is in its hash, and takes room.
local function fill(out, capacity, others, are_ready)
    local PIECE, SIZE = 64, 4194304
    local has, n, size = call('HLEN', runs(me)), #out, 0
    local room = capacity - has
    for name in others:gmatch('%S+') do room = room - call('HLEN', P .. 'runs:' .. name .. ':' .. me) end
    local priority = are_ready and 0 or 3
    while room > 0 and priority < 3 and size < SIZE do
        local entries = call('LPOP', ready(priority), 2 * math.min(room, PIECE))
        if entries and entries[1] then
            local given = claim(me, entries, {})
            for i = 1, #given do
                out[n + i] = given[i]
                size = size + #given[i]
            end
            n, has, room = n + #given, has + #given / 2, room - #given / 2
        else
            priority = priority + 1
        end
    end
    if room > 0 and others ~= '' then
        call('HSET', P .. 'shared', queue .. ' ' .. me, capacity .. ' ' .. others)
        room = room + 0.5
    end
    if room > 0 and size < SIZE then call('ZADD', IDLE, room, me) else call('ZREM', IDLE, me) end
    return has
end
local capacity, others = ARGV[4]:match('^(%S+) ?(.*)$')
capacity = tonumber(capacity)
beat(me, lease, at)
local place = capacity < 0 and ARGV[5]:gsub('^%d+', '0') or ARGV[5]
if call('HGET', WORKERS, me) ~= place then call('HSET', WORKERS, me, place) end
local i = 7
while ARGV[i] do
    if ARGV[i] == 'v' then
        local last = i + 3 + ARGV[i + 2]
        done(ARGV[i + 1], ARGV[i + 3], {unpack(ARGV, i + 4, last)})
        i = last + 1
    else
        other(ARGV[i], ARGV[i + 1], ARGV[i + 2])
        i = i + 3
    end
end
if ARGV[6] == '1' then reap() end
local is_any = call('EXISTS', LATER, ready(0), ready(1), ready(2)) > 0
local out = {is_any and promote() or -1, 0}
if capacity >= 0 then
    out[2] = fill(out, capacity, others, is_any)
else
    call('ZREM', IDLE, me)
    if capacity == -2 then
        local left = call('HGETALL', runs(me))
        call('DEL', runs(me))
        call('HDEL', WORKERS, me)
        call('HDEL', P .. 'shared', queue .. ' ' .. me)
        put_again(left)
    end
    out = {-1, call('HLEN', runs(me))}
end
send_all()
return out
]])

-- ARGV: the tasks that the worker knows. {id, payload, …} of some others that it has, none when it knows all. A reply
-- is short, so that it comes through a line on which a long one is cut each time.
tasks.RESUME = client.script(HEAD .. [[
beat(me, lease, at)
local known, out, size = {}, {}, 0
for i = 4, #ARGV do known[ARGV[i] ] = true end
for _, id in ipairs(call('HKEYS', runs(me))) do
    local bytes = not known[id] and payload(id)
    if bytes and size < 1024 then
        out[#out + 1] = id
        out[#out + 1] = bytes
        size = size + #id + #bytes
    elseif not known[id] and not bytes then
        call('HDEL', runs(me), id)
    end
end
return out
]])

-- ARGV: ids. 0 for each that is neither waiting nor running.
tasks.CHECK = client.script(HEAD .. ENDS .. [[
beat(me, lease, at)
reap()
send_all()
local out = {}
for i = 4, #ARGV do out[#out + 1] = call('HEXISTS', tasks_of(me), ARGV[i]) end
return out
]])

-- ARGV: ids. The tasks have no result; workers that run them are told.
tasks.CANCEL = client.script(HEAD .. [[
local workers = call('HKEYS', WORKERS)
for i = 4, #ARGV do
    if call('HDEL', tasks_of(me), ARGV[i]) == 1 then
        for _, worker in ipairs(workers) do
            if call('HEXISTS', runs(worker), ARGV[i]) == 1 then mail(worker, 'w', 'cancel', ARGV[i], '') end
        end
    end
end
return 1
]])

-- {processes of all workers, workers, ready, delayed, dead}
tasks.STATE = client.script(HEAD .. [[
local processes, workers = 0, 0
local all = call('HGETALL', WORKERS)
for i = 1, #all, 2 do
    local own = tonumber(all[i + 1]:match('^%d+'))
    if own > 0 and deadline(all[i]) > at then
        processes, workers = processes + own, workers + 1
    end
end
local waiting = 0
for priority = 0, 2 do waiting = waiting + call('LLEN', ready(priority)) / 2 end
return {processes, workers, waiting, call('ZCARD', LATER), call('LLEN', DEAD)}
]])

-- The dead letters, the newest first: {id, when in ms, how: v its process died, d its worker, payload} each.
tasks.DEAD = client.script(HEAD .. [[
local out = {}
for _, packed in ipairs(call('LRANGE', DEAD, 0, 999)) do
    local letter = cmsgpack.unpack(packed)
    out[#out + 1] = {letter.id, letter.at, letter.why, letter.bytes}
end
return out
]])

-- ARGV: retry or drop, then ids; without any all of them. How many there were.
tasks.BURIED = client.script(HEAD .. GIVE .. [[
local wanted, n = {}, 0
for i = 5, #ARGV do wanted[ARGV[i] ] = true end
for _, packed in ipairs(call('LRANGE', DEAD, 0, -1)) do
    local letter = cmsgpack.unpack(packed)
    if #ARGV == 4 or wanted[letter.id] then
        n = n + 1
        call('LREM', DEAD, 1, packed)
        if ARGV[4] == 'retry' then
            call('HSET', tasks_of(owner_of(letter.id)), letter.id, letter.bytes)
            put({letter.id, '0 0 0 0 1'})
        end
    end
end
return n
]])

return tasks
