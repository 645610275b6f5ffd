--- pool:imap and imap_unordered: results as they come, and no more than a window of items in flight.
local core = require "mpengine.core"
local errors = require "mpengine.errors"

local imap = {}

--- An iterator over items: of a list, or an iterator function itself.
local function items_of(call, source, state, control)
    if type(source) == "function" then
        return function()
            control = source(state, control)
            return control
        end
    end
    if type(source) ~= "table" then
        error(("bad argument #2 to '%s' (table or iterator function expected, got %s)"):format(call, type(source)), 4)
    end
    local i = 0
    return function()
        i = i + 1
        return source[i]
    end
end

--- Takes items from the source until enough are in flight.
local function fill(it)
    local job = it.job
    while not it.exhausted and job.available - it.delivered < it.window do
        local item = it.next_item()
        if item == nil then
            it.exhausted = true
            break
        end
        job.available = job.available + 1
        job.items[job.available] = item
    end
    it.pool:enqueue(job)
    it.pool:feed()
end

local function take(it, index)
    local slot = it.results[index]
    it.results[index], it.job.items[index] = nil, nil
    it.delivered = it.delivered + 1
    return slot
end

local function give(index, slot)
    if slot.err then error(slot.err, 0) end
    return index, slot.value
end

--- The loop function: the next result, in order or as it comes.
local function next_result(it)
    while true do
        fill(it)
        local index = it.next_index
        if it.ordered then
            if it.results[index] then
                it.next_index = index + 1
                return give(index, take(it, index))
            end
        elseif it.first_ready <= it.last_ready then
            index = it.ready[it.first_ready]
            it.ready[it.first_ready] = nil
            it.first_ready = it.first_ready + 1
            return give(index, take(it, index))
        end
        if it.exhausted and it.delivered == it.job.available then return nil end
        if it.pool.terminated and it.pool.outstanding == 0 and not next(it.results) then
            error(errors.new{ kind = "terminated", message = "the pool was terminated" }, 0)
        end
        it.news:wait()
    end
end

--- The loop function and its state. make_job(items, deliver) -> the job of a growing list of items.
function imap.iterator(pool, call, source, chunksize, ordered, make_job)
    local it = {
        pool = pool, ordered = ordered, results = {}, ready = {}, first_ready = 1, last_ready = 0,
        next_index = 1, delivered = 0, news = core.waitlist(),
        window = 4 * pool.size * chunksize + 64,
        next_item = items_of(call, source),
    }
    it.job = make_job({}, function(index, value, err)
        it.results[index] = { value = value, err = err }
        if not ordered then
            it.last_ready = it.last_ready + 1
            it.ready[it.last_ready] = index
        end
        it.news:wake()
    end)
    return next_result, it
end

return imap
