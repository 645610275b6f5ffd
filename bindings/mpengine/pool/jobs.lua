--- Jobs of a pool: a single call, which is its own AsyncResult, and many items, of a map or an
--- imap. schedule.lua describes the functions of a job.
local core = require "mpengine.core"
local errors = require "mpengine.errors"
local progress = require "mpengine.pool.progress"
local schedule = require "mpengine.pool.schedule"
local Result = require "mpengine.pool.result"
local stop = require "mpengine.pool.stop"
local worker = require "mpengine.pool.worker"

local jobs = {}

local TARGET_SECONDS = 0.001 -- intended duration of a chunk
local CHUNK_MAX = 500        -- items, by default
local CHUNK_LIMIT = 65536    -- items of a task at most

-- ---- one call ----

local Call = {}

local CallResult = Result.class{
    ops = Call, cancel_with = stop.cancel, mode = worker.APPLY, shared_id = 0, retries = 0,
}

--- The AsyncResult of a call, as messages name it, with a list of n arguments. Until it is settled it holds
--- the pool, by its handle, so that a pool that is no longer referenced completes its calls before it ends.
function jobs.call(handle, call, f_id, args, n, opts)
    local job = setmetatable({
        handle = handle, where = call, f_id = f_id, items = args, item_count = n, state = nil, n = nil, values = nil,
    }, CallResult)
    if opts then
        job.callback, job.error_callback, job.timeout = opts.callback, opts.error_callback, opts.timeout
        job.retries = opts.retries
        if opts.timeout then job.mode = worker.APPLY | worker.TIMED end
    end
    return job
end

--- After the first put: keeps what is needed to put it again in its present state. bytes: the
--- encoded arguments, unless they are scalars that would make a long message.
function jobs.keep(job, bytes, has_objects)
    local args = job.items
    if not bytes or has_objects then args = { table.unpack(args, 1, job.item_count) } end
    if has_objects then -- which live as long as these do
        job.kept = args
        bytes, job.passed = core.encode_args(job.where, 0, table.unpack(args, 1, job.item_count))
    end
    job.items = bytes or args
end

--- The call is put when there is room, with its present arguments.
function jobs.postpone(pool, job)
    jobs.keep(job, nil, true)
    job.open = true
    schedule.enqueue(pool, job)
end

function Call.hand_out(job, pool)
    if not job.open then return false end
    job.open = false
    local ok, why = schedule.put(pool, job, 1, 1)
    if not ok then Call.failed(job, 1, errors.new{ kind = "error", message = errors.message(why), value = why }) end
    if job.passed then job.items, job.passed = job.kept, nil end -- these descriptors were sent
    return true
end

function Call.arrived(job, _, _, reports, _, ...)
    if not reports then return Result.set(job, ...) end
    reports.kind = "error"
    Result.set_error(job, errors.new(reports))
end

function Call.failed(job, _, err) Result.set_error(job, err) end
function Call.give_back(job) job.open = true end

function Call.abandon(job, err)
    job.open = false
    if err then Result.set_error(job, err) end
end

-- ---- many items ----

local Many = {}
jobs.Many = Many

--- The common part of a map and an imap. n: how many items it will have, nil while more may arrive;
--- available: how many it has.
function jobs.many(ops, f_id, items, n, available, opts, where)
    local chunk = opts.chunksize
    return {
        ops = ops, f_id = f_id, shared_id = opts.shared_id or 0, items = items, n = n, available = available,
        mode = worker.MAP | (opts.star and worker.STAR or 0) | (opts.timeout and worker.TIMED or 0)
            | (opts.pack and worker.PACK or 0),
        values = {},
        at = 1,        -- next item to hand out
        returned = {}, -- ranges of items to hand out again, the last one first
        chunk = chunk and math.min(chunk, CHUNK_LIMIT) or 1, adaptive = not chunk and n ~= nil,
        timeout = opts.timeout, retries = opts.retries or 0, where = where,
        return_exceptions = opts.return_exceptions,
    }
end

--- Cuts a piece off the range that was returned last. Pieces are small, since the range was
--- returned for being slow.
local function cut_returned(job, pool)
    local last = #job.returned
    local range = job.returned[last]
    local first, count = range.first, (range.last - range.first) // (2 * pool.size) + 1
    range.first = first + count
    if range.first > range.last then job.returned[last] = nil end
    return first, count
end

local function cut_new(job, pool)
    local count, left = job.chunk, job.available - job.at + 1
    if job.adaptive then
        local fair = (job.n - job.at + 1) // (2 * pool.size) + 1
        if count > fair then count = fair end
    end
    if count > left then count = left end
    local first = job.at
    job.at = first + count
    return first, count
end

function Many.hand_out(job, pool)
    if job.over then return false end
    local first, count
    if job.returned[1] then first, count = cut_returned(job, pool) else first, count = cut_new(job, pool) end
    if count < 1 then return false end
    local ok, why = schedule.put(pool, job, first, count)
    if ok then return true end
    if count == 1 then
        job.ops.failed(job, first, errors.new{ kind = "error", message = errors.message(why), value = why })
    else -- one of them cannot be sent
        for i = first + count - 1, first, -1 do job.ops.give_back(job, i, i) end
    end
    return true
end

function Many.give_back(job, first, last) table.insert(job.returned, { first = first, last = last }) end

--- Adapts the number of items of the next tasks to the results.
function Many.adapt(job, elapsed, count)
    if not job.adaptive then return end
    local each = elapsed / count
    job.each = job.each and job.each * 0.8 + each * 0.2 or each
    local size = TARGET_SECONDS // math.max(job.each, 1e-7)
    job.chunk = math.tointeger(math.max(1, math.min(size, CHUNK_MAX, job.chunk * 2)))
end

--- Adds the item's index to an error.
function Many.name(job, index, err)
    err.index, err.item = index, job.items[index]
    return err
end

--- Makes error objects of the reports; returns how many, and the least index.
function Many.report(job, reports)
    if not reports then return 0 end
    local n, least = 0, math.huge
    for index, report in pairs(reports) do
        report.kind = "error"
        Many.name(job, index, errors.new(report))
        n, least = n + 1, math.min(least, index)
    end
    return n, least
end

function Many.abandon(job)
    job.over = true
    job.returned = {}
end

-- ---- a map ----

local Map = setmetatable({}, { __index = Many })

--- result: the AsyncResult that gets the list.
function jobs.map(f_id, items, n, opts, where, result)
    local job = jobs.many(Map, f_id, items, n, n, opts, where)
    job.result, job.left, job.first_index = result, n, math.huge
    job.progress = progress.new(opts.progress, n)
    return job
end

local function note_error(job, index, err)
    if job.return_exceptions then
        job.values[index] = err
    elseif index < job.first_index then
        job.first_index, job.first_error = index, err
    end
end

local function settle(job)
    if job.first_error then job.result:set_error(job.first_error) else job.result:set(job.values) end
end

--- count items have ended, `failed` of them with an error.
local function ended(job, count, failed)
    job.left = job.left - count
    local is_last = job.left == 0 and not job.over
    if is_last then job.over = true end
    if job.progress then
        progress.add(job.progress, count, failed, is_last and function() settle(job) end)
    elseif is_last then
        settle(job)
    end
end

function Map.arrived(job, _, count, reports, elapsed)
    local failed, least = Many.report(job, reports)
    if failed > 0 and job.return_exceptions then
        for index, err in pairs(reports) do note_error(job, index, err) end
    elseif failed > 0 then
        note_error(job, least, reports[least])
    end
    Many.adapt(job, elapsed, count)
    ended(job, count, failed)
end

function Map.failed(job, index, err)
    note_error(job, index, Many.name(job, index, err))
    ended(job, 1, 1)
end

function Map.abandon(job, err)
    Many.abandon(job)
    if job.progress then progress.finish(job.progress) end
    if err then job.result:set_error(err) end
end

return jobs
