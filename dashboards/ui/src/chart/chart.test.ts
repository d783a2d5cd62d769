import { describe, expect, it } from 'vitest';
import type { Point, Series } from '../api/prometheus';
import { align, heat, stack, withGaps } from './data';

const series = (labels: Record<string, string>, ...points: Point[]): Series => ({ labels, points });

describe('chart', () => {
  const two = [series({ a: '1' }, [1, 10], [3, 30]), series({ a: '2' }, [2, 5], [3, NaN])];
  it('leaves gaps where a series has no value', () => expect(align(two)).toEqual([[1, 2, 3], [10, null, 30], [null, 5, null]]));
  it('stacks', () => expect(stack(align(two))).toEqual([[1, 2, 3], [10, 0, 30], [10, 5, 30]]));
  it('bridges no missing steps', () => {
    expect(withGaps([[1, 2, 5], [1, 1, 1]], 1)).toEqual([[1, 2, 3, 5], [1, 1, null, 1]]);
    expect(withGaps([[1, 2], [1, 1]], 1)).toEqual([[1, 2], [1, 1]]);
  });
});

describe('heatmap', () => {
  it('takes cumulative buckets apart', () => {
    const map = heat([series({ le: '+Inf' }, [1, 9]), series({ le: '1' }, [1, 4]), series({ le: '5' }, [1, 8])]);
    expect(map.rows).toEqual([[0, 1], [1, 5], [5, Infinity]]);
    expect(map.cells).toEqual([[4], [4], [1]]);
    expect(map.max).toBe(4);
  });
  it('adds native histograms up', () => {
    const one: Series = { labels: {}, points: [], histograms: [[1, [[0, 1, 3]]], [2, [[1, 2, 5]]]] };
    const map = heat([one, { labels: { x: 'y' }, points: [], histograms: [[1, [[0, 1, 2]]]] }]);
    expect([map.times, map.rows, map.cells]).toEqual([[1, 2], [[0, 1], [1, 2]], [[5, 0], [0, 5]]]);
  });
});
