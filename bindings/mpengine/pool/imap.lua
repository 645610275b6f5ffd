--- pool:imap and imap_unordered: results as they arrive, with at most a window of items in flight.
---
--- The loop takes finished results. A task of its own, the puller, takes items from the source when
--- there is room for half a window. So the source may wait without delaying finished results. The
--- puller ends when the window is full. It holds the job only, so that a pool that is dropped in a
--- loop can be collected.
local core = require "mpengine.core"
local errors = require "mpengine.errors"
local jobs = require "mpengine.pool.jobs"
local progress = require "mpengine.pool.progress"
local schedule = require "mpengine.pool.schedule"
local sources = require "mpengine.pool.source"
local stop = require "mpengine.pool.stop"
local worker = require "mpengine.pool.worker"

local imap = {}

local Many = jobs.Many
local Stream = setmetatable({}, { __index = Many })

-- ---- the job: records for the loop which items are ready ----

--- outcome: true, or the error object.
local function ready(job, index, outcome)
    job.outcomes[index] = outcome
    if not job.ordered then
        job.last_ready = job.last_ready + 1
        job.ready[job.last_ready] = index
    end
end

function Stream.arrived(job, first, count, reports)
    local failed = Many.report(job, reports)
    for index = first, first + count - 1 do ready(job, index, reports and reports[index] or true) end
    job.news:wake()
    if job.progress then progress.add(job.progress, count, failed) end
end

function Stream.failed(job, index, err)
    ready(job, index, Many.name(job, index, err))
    job.news:wake()
    if job.progress then progress.add(job.progress, 1, 1) end
end

function Stream.abandon(job, err)
    Many.abandon(job)
    job.broken = err
    job.news:wake()
end

-- ---- the puller ----

--- Hands out the items at hand, even if they are less than a chunk.
local function flush(pool, job)
    job.flushing = false
    if job.over then return end
    schedule.enqueue(pool, job)
    schedule.feed(pool)
end

local function hand_out(pool, job)
    schedule.enqueue(pool, job)
    schedule.feed(pool)
end

--- Hands out a whole chunk at once; a part of one when the source waits, or the puller ends.
local function took(pool, job, item)
    job.available = job.available + 1
    job.items[job.available] = item
    if job.source.spread then job.mode = job.mode | worker.STAR end
    if job.available - job.at + 1 >= job.chunk then
        hand_out(pool, job)
    elseif not job.flushing then
        job.flushing = true
        core.spawn(flush, pool, job)
    end
end

--- The source has no more items, or has raised an error, which is raised after the results.
local function exhausted(job, err)
    job.exhausted, job.source_error = true, err
    job.news:wake()
end

--- How many more items may be in flight.
local function room_of(job) return job.window - job.available + job.delivered end

--- Takes the items of a list many at a time, in whole chunks.
local function pull_list(pool, job)
    local room = room_of(job)
    if room <= 0 then return end
    if room > job.chunk then room = room - room % job.chunk end
    job.available = job.available + sources.move(job.source, job.items, job.available + 1, room)
    hand_out(pool, job)
    if job.source.at == job.source.total then exhausted(job) end
end

local function pull_items(pool, job)
    local source = job.source
    while room_of(job) > 0 do
        local found, item = source:next()
        if job.over or job.exhausted then return end -- the job ended in the meantime
        if not found then return exhausted(job) end
        took(pool, job, item)
    end
end

local function pull(pool, job)
    local ok, err = true, nil
    if not job.over then ok, err = pcall(job.source.items and pull_list or pull_items, pool, job) end
    if not ok and not job.over and not job.exhausted then exhausted(job, { err }) end
    job.pulling = false
end

--- The loop has ended, or can never go on: nothing more is taken from the source.
local function leave(job)
    if job.left then return end
    job.left = true
    if not job.exhausted then
        job.exhausted = true
        if not job.pulling then sources.close(job.source) end
    end
    if job.progress then progress.finish(job.progress) end
end

-- ---- the loop ----

--- The index of a result that is ready.
local function next_ready(job)
    local index
    if job.ordered then
        index = job.next_index
        if not job.outcomes[index] then return nil end
        job.next_index = index + 1
    elseif job.first_ready <= job.last_ready then
        index = job.ready[job.first_ready]
        job.ready[job.first_ready] = nil
        job.first_ready = job.first_ready + 1
    end
    return index
end

local function take(job, index)
    local outcome, value = job.outcomes[index], job.values[index]
    job.outcomes[index], job.values[index], job.items[index] = nil, nil, nil
    job.delivered = job.delivered + 1
    if outcome == true then
        if value ~= nil then return index, value end
        local reason = job.reasons[index]
        job.reasons[index] = nil
        return index, nil, reason
    end
    if job.return_exceptions then return index, outcome end
    error(outcome, 0)
end

--- The end of the loop, possibly by an error of the source.
local function ended(pool, job)
    leave(job)
    pool.published.streams[job] = nil
    if job.progress then progress.wait(job.progress) end
    local err = job.source_error
    job.source_error = nil
    if err then error(err[1], 0) end
    return nil
end

--- A wait of the loop: when the task is cancelled in it, the items are cancelled too.
local function wait_for(job, wait, ...)
    local guard <close> = job.guard -- luacheck: ignore 211
    return wait(...)
end

local function start_puller(pool, job)
    job.pulling = true
    core.spawn(pull, pool, job)
    wait_for(job, core.sleep, 0)
end

--- The next result, in order or as it arrives.
local function next_result(pool, job)
    while true do
        if job.available - job.delivered <= job.low and not job.pulling and not job.exhausted then
            start_puller(pool, job)
        end
        local index = next_ready(job)
        if index then return take(job, index) end
        if job.exhausted and job.delivered == job.available then return ended(pool, job) end
        if job.broken then
            leave(job)
            error(job.broken, 0)
        end
        wait_for(job, job.news.wait, job.news)
    end
end

--- Cancels the items when a wait of the loop raises.
local Guard = {}

function Guard:__close(err)
    if err == nil or self.job.over then return end
    leave(self.job)
    self.job.broken = errors.new{ kind = "cancelled", message = "the task was cancelled" }
    stop.cancel(self.pool, self.job)
end

--- The end of the for loop.
local Closer = { __close = function(self) leave(self.job) end }

--- How many items may be in flight: some chunks for each worker.
local function window_of(pool, job, ahead)
    if ahead then return ahead end
    return (4 * pool.size + (63 + job.chunk) // job.chunk) * job.chunk
end

--- The loop function, and the other values of a for loop. opts: as in jobs.many, and ahead.
function imap.iterator(handle, call, f_id, source, opts, ordered)
    local pool = handle.pool
    opts.chunksize = opts.chunksize or 1
    local job = jobs.many(Stream, f_id, {}, nil, 0, opts, call)
    job.mode = job.mode | (opts.pack and 0 or worker.REASON)
    job.ordered, job.source, job.window = ordered, source, window_of(pool, job, opts.ahead)
    job.chunk = math.min(job.chunk, job.window)
    job.low = job.window // 2
    job.progress = progress.new(opts.progress, source.total)
    job.outcomes, job.reasons, job.ready, job.first_ready, job.last_ready = {}, {}, {}, 1, 0
    job.next_index, job.delivered, job.news = 1, 0, core.waitlist()
    job.guard = setmetatable({ pool = pool, job = job }, Guard)
    pool.published.streams[job] = true
    local function step() return next_result(pool, job, handle) end -- the pool lives as long as this function
    return step, nil, nil, setmetatable({ job = job }, Closer)
end

return imap
