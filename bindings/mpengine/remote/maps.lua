--- The maps of a remote pool. A list is cut into chunks, each a task; a window of chunks is outstanding, so
--- that an iterator without end is read as far as its results are.
local core = require "mpengine.core"
local progress = require "mpengine.pool.progress"
local Result = require "mpengine.pool.result"
local sources = require "mpengine.pool.source"

local maps = {}

local CHUNKS <const> = 4 -- for each process of the workers
local LARGEST <const> = 2000 -- items of a chunk
local STREAM <const> = 16 -- items of a chunk of an iterator

--- The items of a chunk that are left when `taken` are gone.
local function size_of(opts, slots, total)
    if opts.chunksize then return opts.chunksize end
    if not total then return STREAM end
    return math.max(1, math.min(LARGEST, math.ceil(total / (slots * CHUNKS))))
end

local function placed(err, index)
    err.index = index
    return err
end

function maps.add(Pool, methods)
    --- Starts all chunks of a list; finished(values, first error) is called at the end.
    local function start(pool, call, name, list, opts, star, finished)
        local n = #list
        local size = size_of(opts, Pool.slots(pool), n)
        local values, failed, left, tokens = {}, nil, 0, {}
        local shown = progress.new(opts.progress, n)
        for first = 1, n, size do
            local count = math.min(size, n - first + 1)
            left = left + 1
            tokens[left] = Pool.chunk(pool, call, name, table.move(list, first, first + count - 1, 1, {}), count, opts,
                star, function(got, errs)
                    local bad = 0
                    for i = 1, count do
                        local err = errs[i]
                        if err then
                            bad = bad + 1
                            placed(err, first + i - 1)
                            if not failed or failed.index > err.index then failed = err end
                        end
                        if err and opts.return_exceptions then
                            values[first + i - 1] = err
                        else
                            values[first + i - 1] = got[i]
                        end
                    end
                    if shown then progress.add(shown, count, bad) end
                    left = left - 1
                    if left == 0 then finished(values, not opts.return_exceptions and failed or nil) end
                end)
        end
        return tokens
    end

    local function cancel_all(pool, result) Pool.cancel(pool, result.tokens) end

    local function map_async(self, call, f, list, opts, star)
        local pool, name = Pool.check_call(self, call, f)
        list = sources.list(call, 2, list)
        opts = Pool.merged(pool, call, opts, Pool.of_map)
        local result = Result.of { handle = self, cancel_with = cancel_all, callback = opts.callback,
            error_callback = opts.error_callback }
        if #list == 0 then
            result:set {}
            return result
        end
        result.tokens = start(pool, call, name, list, opts, star, function(values, failed)
            if failed then result:set_error(failed) else result:set(values) end
        end)
        return result
    end

    local function map(self, call, f, list, opts, star)
        local result <close> = map_async(self, call, f, list, opts, star)
        return result:get()
    end

    --- The results of f for each item, in order; raises the error of the first item that failed.
    ---@param f function|string
    ---@param list table|mp.List
    ---@param opts? table chunksize, progress, timeout, retries, retry_errors, pack, return_exceptions, priority
    function methods:map(f, list, opts) return map(self, "Pool:map", f, list, opts) end
    function methods:starmap(f, list, opts) return map(self, "Pool:starmap", f, list, opts, true) end
    function methods:map_async(f, list, opts) return map_async(self, "Pool:map_async", f, list, opts) end
    function methods:starmap_async(f, list, opts) return map_async(self, "Pool:starmap_async", f, list, opts, true) end

    -- ---- iterators ---------------------------------------------------------------------------

    --- Takes the next chunk of a source: a list and its size, 0 at the end.
    local function take(it)
        local items, n = {}, 0
        while n < it.size do
            local more, item = it.source:next()
            if not more then
                it.ended = true
                break
            end
            n = n + 1
            items[n] = item
        end
        return items, n
    end

    --- Keeps the window full.
    local function fill(it)
        while not it.ended and not it.problem and it.taken - it.given < it.ahead do
            local ok, items, n = pcall(take, it)
            if not ok then
                it.problem = items
                break
            end
            if n == 0 then break end
            local first = it.taken + 1
            it.taken = it.taken + n
            it.open = it.open + 1
            local token
            local spread = it.source.spread
            token = Pool.chunk(it.pool, it.call, it.name, items, n, it.opts, spread, function(values, errs, reasons)
                it.open = it.open - 1
                it.tokens[token or 0] = nil
                local chunk = { first = first, n = n, values = values, errs = errs, reasons = reasons, at = 0 }
                if it.ordered then it.chunks[first] = chunk else it.chunks[#it.chunks + 1] = chunk end
                it.arrived:wake()
                if it.shown then
                    local bad = 0
                    for _ in pairs(errs) do bad = bad + 1 end
                    progress.add(it.shown, n, bad)
                end
            end)
            it.tokens[token] = true
        end
    end

    local function close(it)
        local tokens = {}
        for token in pairs(it.tokens) do tokens[#tokens + 1] = token end
        it.ended = true
        Pool.cancel(it.pool, tokens)
        sources.close(it.source)
    end

    --- The chunk from which the next result is taken; waits for it. Nil at the end.
    local function current(it)
        while true do
            local key = it.ordered and it.first or 1
            local chunk = it.chunks[key]
            if chunk and chunk.at < chunk.n then return chunk end
            if chunk and it.ordered then
                it.chunks[key], it.first = nil, it.first + chunk.n
            elseif chunk then
                table.remove(it.chunks, 1)
            else
                fill(it)
                if not it.chunks[key] then
                    if it.open == 0 then return nil end
                    it.arrived:wait()
                end
            end
        end
    end

    local function step(it)
        local chunk = current(it)
        if not chunk then
            if it.shown then progress.finish(it.shown) end
            if it.problem then error(it.problem, 0) end
            return nil
        end
        chunk.at = chunk.at + 1
        it.given = it.given + 1
        local index = chunk.first + chunk.at - 1
        local err = chunk.errs[chunk.at]
        if err and not it.opts.return_exceptions then
            close(it)
            error(placed(err, index), 0)
        end
        if err then return index, placed(err, index) end
        return index, chunk.values[chunk.at], chunk.reasons and chunk.reasons[chunk.at]
    end

    local function imap(self, call, ordered, f, value, ...)
        local pool, name = Pool.check_call(self, call, f)
        local source, opts = sources.of(call, value, ...)
        opts = Pool.merged(pool, call, opts, Pool.of_map)
        local slots = Pool.slots(pool)
        local size = size_of(opts, slots, source.total)
        local it = setmetatable({ pool = pool, call = call, name = name, source = source, opts = opts,
            ordered = ordered, size = size, ahead = opts.ahead or slots * CHUNKS * size, taken = 0, given = 0, open = 0,
            chunks = {}, tokens = {}, first = 1, arrived = core.waitlist(),
            shown = progress.new(opts.progress, source.total) }, { __close = close })
        return step, it, nil, it
    end

    --- for i, v in pool:imap(f, list or iterator [, opts]): in order, as they come.
    function methods:imap(f, value, ...) return imap(self, "Pool:imap", true, f, value, ...) end

    --- for i, v in pool:imap_unordered(f, list or iterator [, opts]): i is the item's index.
    function methods:imap_unordered(f, value, ...) return imap(self, "Pool:imap_unordered", false, f, value, ...) end
end

return maps
