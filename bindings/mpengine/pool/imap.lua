--- pool:imap and imap_unordered: results as they come, and no more than a window of items in flight.
local check = require "mpengine.check"
local core = require "mpengine.core"
local errors = require "mpengine.errors"
local jobs = require "mpengine.pool.jobs"
local progress = require "mpengine.pool.progress"
local schedule = require "mpengine.pool.schedule"

local imap = {}

local Many = jobs.Many
local Stream = setmetatable({}, { __index = Many })

--- An iterator over items: of a list, or an iterator function itself.
local function items_of(call, source)
    if type(source) == "function" then
        local control
        return function()
            control = source(nil, control)
            return control
        end
    end
    if type(source) ~= "table" then
        errors.raise(check.message(call, 1, "table or iterator function", source))
    end
    local i = 0
    return function()
        i = i + 1
        return source[i]
    end
end

-- ---- the job: tells the loop which items are ready ----

--- outcome: true, or the error object.
local function ready(job, index, outcome)
    job.outcomes[index] = outcome
    if not job.ordered then
        job.last_ready = job.last_ready + 1
        job.ready[job.last_ready] = index
    end
end

function Stream.arrived(job, first, count, reports)
    local failed = Many.report(reports)
    for index = first, first + count - 1 do ready(job, index, reports and reports[index] or true) end
    job.news:wake()
    if job.progress then progress.add(job.progress, count, failed) end
end

function Stream.failed(job, index, err)
    ready(job, index, err)
    job.news:wake()
    if job.progress then progress.add(job.progress, 1, 1) end
end

function Stream.abandon(job, err)
    Many.abandon(job)
    job.broken = err
    job.news:wake()
end

-- ---- the loop ----

--- Takes items from the source until enough are in flight. The source may wait, or raise.
local function fill(pool, job)
    local news = false
    while not job.exhausted and job.available - job.delivered < job.window do
        local item = job.next_item()
        if item == nil then
            job.exhausted = true
            break
        end
        job.available = job.available + 1
        job.items[job.available] = item
        news = true
    end
    if news and not job.over then
        schedule.enqueue(pool, job)
        schedule.feed(pool)
    end
end

--- The index of a result that is there.
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
    if outcome ~= true then error(outcome, 0) end
    return index, value
end

--- The loop function: the next result, in order or as it comes.
local function next_result(it)
    local pool, job = it.pool, it.job
    while true do
        fill(pool, job)
        local index = next_ready(job)
        if index then return take(job, index) end
        if job.exhausted and job.delivered == job.available then return nil end
        if job.broken then error(job.broken, 0) end
        job.news:wait()
    end
end

--- The loop function and its state. opts: as of jobs.many.
function imap.iterator(pool, call, f_id, source, opts, ordered)
    opts.chunksize = opts.chunksize or 1
    local job = jobs.many(Stream, f_id, {}, nil, 0, opts, call)
    job.ordered, job.next_item = ordered, items_of(call, source)
    job.window = 4 * pool.size * job.chunk + 64
    job.outcomes, job.ready, job.first_ready, job.last_ready = {}, {}, 1, 0
    job.next_index, job.delivered, job.news = 1, 0, core.waitlist()
    return next_result, { pool = pool, job = job }
end

return imap
